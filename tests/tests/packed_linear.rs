//! Linear layers with packed weights write what they write without.

use denoir_core::backend::{Program, run};
use denoir_core::cpu::{Cpu, Isa, pack, packed_bytes};
use denoir_core::ops::{Bounds, Epilogue, Linear, Memory, SharedMean};
use denoir_core::{DType, Modulation, QuantResidual, Region, Serial, TokenLayout, View, Weight};
use half::{bf16, f16};

/// Bytes at a multiple of 64.
struct Bytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    fn new(len: usize) -> Bytes {
        let bytes = vec![0xff; len + 64];
        Bytes { start: bytes.as_ptr().align_offset(64), bytes, len }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn float(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 1000.0 - 1.0
    }

    /// Fills a view with values of its type.
    fn fill(&mut self, bytes: &mut [u8], v: &View) {
        for r in 0..v.rows {
            for c in 0..v.cols {
                let at = v.offset + (r * v.stride + c) * v.dtype.size();
                match v.dtype {
                    DType::F32 => bytes[at..at + 4].copy_from_slice(&self.float().to_le_bytes()),
                    DType::F16 => bytes[at..at + 2].copy_from_slice(&f16::from_f32(self.float()).to_le_bytes()),
                    DType::BF16 => bytes[at..at + 2].copy_from_slice(&bf16::from_f32(self.float()).to_le_bytes()),
                    DType::I8 => bytes[at] = ((self.next() % 255) as i8).wrapping_add(-127) as u8,
                    DType::U32 => bytes[at..at + 4].copy_from_slice(&0u32.to_le_bytes()),
                }
            }
        }
    }
}

struct Bump(usize);

impl Bump {
    fn view(&mut self, region: Region, dtype: DType, rows: usize, cols: usize, stride: usize) -> View {
        let view = View { stride, ..View::dense(region, dtype, self.0.next_multiple_of(64), rows, cols) };
        self.0 = view.offset + view.len_bytes().unwrap();
        view
    }
}

/// Largest error of a product against the reference, relative to the size of the products' sums.
fn error(isa: Isa, x: DType, w: DType, [m, n, k, pad]: [usize; 4], epilogue: usize) -> f32 {
    let mut random = Random((m * 7919 + n * 104_729 + k + epilogue) as u64);
    let (mut file, mut arena) = (Bump(0), Bump(0));
    let data = file.view(Region::Weights, w, n, k, k);
    let int8 = x == DType::I8;
    let scale = int8.then(|| file.view(Region::Weights, DType::F32, 1, n, n));
    let bias = Some(file.view(Region::Weights, DType::F32, 1, n, n));
    let table = file.view(Region::Weights, DType::F32, 3, n, n);
    let inputs = arena.view(Region::Arena, x, m, k, k + pad);
    let x_scale = int8.then(|| arena.view(Region::Arena, DType::F32, 1, m, m));
    let layout = TokenLayout { images: 1, image_tokens: m, context_tokens: 0 };
    let residual =
        int8.then(|| file.view(Region::Weights, DType::I8, n, QuantResidual::bytes(k), QuantResidual::bytes(k)));
    let shared_mean = int8.then(|| SharedMean {
        row: arena.view(Region::Arena, DType::I8, 1, k, k),
        scale: arena.view(Region::Arena, DType::F32, 1, 1, 1),
        value: arena.view(Region::Arena, DType::F32, 1, k, k),
        layout,
    });
    let gates = arena.view(Region::Arena, DType::F32, 2, n + 5, n + 5);
    let rows = arena.view(Region::Arena, DType::U32, 1, 1, 1);
    let out = arena.view(Region::Arena, DType::F32, m, n, n + pad);
    let epilogue = [
        Epilogue::Store,
        Epilogue::Silu,
        Epilogue::AddPeriodic(table),
        Epilogue::Residual,
        Epilogue::GatedResidual { modulation: Modulation { table: gates, rows }, gate: 5, layout },
    ][epilogue];
    let op = Linear {
        x: inputs,
        x_scale,
        shared_mean,
        w: Weight { data, scale, residual: residual.map(|residual| residual.offset) },
        bias,
        out,
        epilogue,
    };

    let (mut file, mut arena) = (Bytes::new(file.0), Bytes::new(arena.0));
    for view in [Some(data), scale, bias, Some(table), residual].into_iter().flatten() {
        random.fill(file.get_mut(), &view);
    }
    let shared_mean = shared_mean.map(|shared_mean| [shared_mean.row, shared_mean.scale]).into_iter().flatten();
    for view in [Some(inputs), x_scale, Some(gates), Some(rows), Some(out)].into_iter().flatten().chain(shared_mean) {
        random.fill(arena.get_mut(), &view);
    }
    let mut expected = arena.get().to_vec();
    let bounds = Bounds { weights: file.len, arena: arena.len };
    op.check(&bounds).unwrap();
    reference(&op, file.get(), &mut expected);

    run_packed_and_not(isa, &op, file.get(), &mut arena);

    // Scales are up to 1 here, so that is what sums are like.
    let size = (k as f64).sqrt() * if int8 { 127.0 * 127.0 } else { 1.0 };
    worst(&out, &mut expected, &mut arena.get().to_vec(), size, int8)
}

/// Runs the reference of a linear layer in this arena.
fn reference(op: &Linear, weights: &[u8], arena: &mut [u8]) {
    run(&mut Memory { weights, arena }, Program::replayed("linear", [0; 2]), |k| k.linear(op)).unwrap();
}

/// Runs a linear layer in this arena with packed weights; without, it must give the same bytes.
fn run_packed_and_not(isa: Isa, op: &Linear, weights: &[u8], arena: &mut Bytes) {
    let mut packed = Bytes::new(packed_bytes([op.w].into_iter(), isa).unwrap());
    let mut seen = 0;
    pack(weights, [op.w].into_iter(), isa, packed.get_mut(), &Serial, &mut |_| seen += 1);
    assert_eq!(seen, 1 + usize::from(op.w.residual.is_some()));
    let mut loose = Bytes::new(arena.len);
    loose.get_mut().copy_from_slice(arena.get());
    for (arena, region) in [(&mut *arena, packed.get()), (&mut loose, &[][..])] {
        let mut cpu = Cpu::new(weights, arena.get_mut(), &Serial, isa).unwrap().with_packed(region);
        run(&mut cpu, Program::replayed("linear", [0; 2]), |k| k.linear(op)).unwrap();
    }
    let [m, n, k] = [op.x.rows, op.out.cols, op.x.cols];
    let (x, w) = (op.x.dtype, op.w.data.dtype);
    assert!(arena.get() == loose.get(), "{} {x} {w} {m} {n} {k}: other bytes without packing", isa.name());
}

/// The largest difference of two arenas' outputs, relative to this size or, for int8, to the value where that is
/// larger.
fn worst(out: &View, expected: &mut [u8], got: &mut [u8], size: f64, int8: bool) -> f32 {
    let (judge, result) = (Memory { weights: &[], arena: expected }, Memory { weights: &[], arena: got });
    let mut worst = 0f32;
    for (r, c) in (0..out.rows).flat_map(|r| (0..out.cols).map(move |c| (r, c))) {
        let (a, b) = (judge.load(out, r, c), result.load(out, r, c));
        assert!(b.is_finite(), "{b} at {r} {c}");
        worst = worst.max(((a - b).abs() / if int8 { a.abs().max(size) } else { size }) as f32);
    }
    worst
}

#[test]
fn packed_products_are_the_reference_s() {
    const TYPES: [(DType, DType, f32); 6] = [
        (DType::F32, DType::F32, 2e-6),
        (DType::F32, DType::F16, 2e-6),
        (DType::F32, DType::BF16, 2e-6),
        (DType::F16, DType::F16, 2e-6),
        (DType::BF16, DType::BF16, 2e-6),
        (DType::I8, DType::I8, 2e-6),
    ];
    for isa in Isa::available() {
        for (x, w, limit) in TYPES {
            for (i, shape) in [
                [1, 1, 1, 0],
                [1, 64, 64, 0],
                [5, 16, 3, 1],
                [7, 65, 130, 0],
                [16, 70, 63, 1],
                [17, 33, 127, 64],
                [33, 130, 200, 56],
                [100, 64, 96, 0],
                [193, 200, 77, 3],
            ]
            .into_iter()
            .enumerate()
            {
                let e = error(isa, x, w, shape, i % 5);
                assert!(e <= limit, "{} {x} · {w} {shape:?}: {e}", isa.name());
            }
        }
    }
}

/// A matrix whose halves were packed, as those of a gated layer are, is taken from the file when it is asked for whole.
#[test]
fn packed_halves_are_not_the_whole() {
    for isa in Isa::available() {
        let (n, k) = (2 * 21, 7);
        let (mut file, mut arena) = (Bump(0), Bump(0));
        let data = file.view(Region::Weights, DType::F32, n, k, k);
        let x = arena.view(Region::Arena, DType::F32, 1, k, k);
        let out = arena.view(Region::Arena, DType::F32, 1, n, n);
        let w = Weight { data, scale: None, residual: None };
        let halves = [0, n / 2].map(|first| Weight { data: data.rows_from(first, n / 2), ..w });
        let op = Linear { x, x_scale: None, shared_mean: None, w, bias: None, out, epilogue: Epilogue::Store };

        let (mut random, mut file, mut arena) = (Random(1), Bytes::new(file.0), Bytes::new(arena.0));
        random.fill(file.get_mut(), &data);
        random.fill(arena.get_mut(), &x);
        let mut expected = arena.get().to_vec();
        reference(&op, file.get(), &mut expected);
        let mut packed = Bytes::new(packed_bytes(halves.into_iter(), isa).unwrap());
        pack(file.get(), halves.into_iter(), isa, packed.get_mut(), &Serial, &mut |_| {});
        let mut cpu = Cpu::new(file.get(), arena.get_mut(), &Serial, isa).unwrap().with_packed(packed.get());
        run(&mut cpu, Program::once("linear", [0; 2]), |k| k.linear(&op)).unwrap();

        let judge = Memory { weights: file.get(), arena: &mut expected };
        let mut copy = arena.get().to_vec();
        let result = Memory { weights: file.get(), arena: &mut copy };
        for c in 0..n {
            assert!((judge.load(&out, 0, c) - result.load(&out, 0, c)).abs() < 1e-5, "{} column {c}", isa.name());
        }
    }
}
