//! A kernel's descriptor: drawn so that it is valid, then most often changed. The check refuses it, or every instruction
//! set computes what the reference does, packed or not, and writes nothing else. A form that an instruction set has no
//! kernel for is refused too.

#[path = "op/draw.rs"]
mod draw;
// The tests use more of it.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../tests/src/op_matrix/parts.rs"]
mod parts;

use denoir_core::backend::{Backend, OpError, Program, run as run_program};
use denoir_core::cpu::{Cpu, Isa, pack, packed_bytes};
use denoir_core::ops::{Bounds, Epilogue, Linear, Memory, Op, QuantizeRows};
use denoir_core::{DType, Executor, Region, Serial, View, Weight};

use crate::exact::ExactBytes;
use crate::input::Input;
use draw::Draw;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut draw = Draw::new(&mut input);
    let drawn = draw.op();
    let (weights, arena) = draw.regions();
    let bounds = Bounds { weights, arena };
    if let Err(e) = drawn.check(&bounds) {
        panic!("a valid descriptor is refused: {e}: {drawn:#?}");
    }
    let op = changed(&drawn, &mut input);
    if op.check(&bounds).is_ok() && is_small(&op) {
        compare(&op, bounds);
    }
}

/// The descriptor with up to three numbers or types changed.
fn changed(op: &Op, input: &mut Input<'_>) -> Op {
    let mut op = *op;
    for _ in 0..input.below(4) {
        let in_views = parts::views(&mut op).len();
        let which = input.below(in_views + parts::numbers(&mut op).len());
        if which >= in_views {
            change(parts::numbers(&mut op).swap_remove(which - in_views).1, input);
            continue;
        }
        let view = parts::views(&mut op).swap_remove(which).1;
        match input.below(6) {
            0 => change(&mut view.offset, input),
            1 => change(&mut view.rows, input),
            2 => change(&mut view.cols, input),
            3 => change(&mut view.stride, input),
            4 => view.dtype = input.pick(&[DType::F32, DType::F16, DType::BF16, DType::I8, DType::U32]),
            _ => view.region = input.pick(&[Region::Weights, Region::Arena]),
        }
    }
    op
}

fn change(number: &mut usize, input: &mut Input<'_>) {
    *number = match input.below(6) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number.wrapping_mul(2),
        3 => *number / 2,
        4 => number.wrapping_add(64),
        _ => input.edge(),
    };
}

/// Rows that overlap in a view of one column make an op that takes far longer than its memory suggests.
fn is_small(op: &Op) -> bool {
    let sizes: Vec<usize> =
        parts::views(&mut op.clone()).into_iter().map(|(_, view)| view.rows.saturating_mul(view.cols)).collect();
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let other = sizes.iter().map(|size| size.isqrt()).max().unwrap_or(0);
    largest.saturating_mul(other) < 1 << 20
}

/// Runs the reference and every instruction set, in every way.
fn compare(op: &Op, bounds: Bounds) {
    let (weights, before) = fill(op, bounds);
    let mut want = before.to_vec();
    let sane = is_sane(op, &weights, &mut want);
    record(op, &mut Memory { weights: &weights, arena: &mut want }, Program::once("op", [0; 2]));
    for isa in Isa::available() {
        let packed = pack_weights(op, &weights, isa);
        let mut scratch = ExactBytes::zeroed(isa.scratch_bytes_of(op, 1));
        // Programs that read each weight once sum in an order of their own.
        for program in [Program::replayed("op", [0; 2]), Program::once("op", [0; 2])] {
            let mut first: Option<Vec<u8>> = None;
            let ways: &[(&[u8], &dyn Executor)] = &[(&[], &Serial), (&packed, &Reversed), (&packed, &Serial)];
            for (packed, executor) in &ways[..if packed.is_empty() { 2 } else { 3 }] {
                let mut arena = ExactBytes::copied(&before);
                let mut cpu = Cpu::new(&weights, &mut arena, *executor, isa).expect("aligned").with_packed(packed);
                if executor.threads() == 1 {
                    cpu = cpu.with_scratch(&mut scratch);
                }
                if op.missing_form(&cpu.precision()).is_some() {
                    let refused = run_program(&mut cpu, program, |k| k.op(op));
                    assert!(matches!(refused, Err(OpError::Form(_))), "{}: not refused: {op:#?}", isa.name());
                    continue;
                }
                record(op, &mut cpu, program);
                let got = &arena[..];
                let first = first.get_or_insert_with(|| got.to_vec());
                assert!(same(op, first, got), "{}: other bytes in another way: {op:#?}", isa.name());
                if let Err(what) = close(op, &before, got, &want, sane) {
                    panic!("{}: {what}: {op:#?}", isa.name());
                }
            }
        }
    }
}

fn record<B: Backend<Error: std::fmt::Debug>>(op: &Op, backend: &mut B, program: Program) {
    run_program(backend, program, |k| k.op(op)).expect("checked");
}

/// The regions before the kernel runs: small numbers of each view's type, indices in range, outputs poisoned.
fn fill(op: &Op, bounds: Bounds) -> (ExactBytes, ExactBytes) {
    let mut weights = ExactBytes::zeroed(bounds.weights);
    let mut arena = ExactBytes::zeroed(bounds.arena);
    let mut views = parts::views(&mut op.clone()).into_iter().map(|(name, view)| (name, *view)).collect::<Vec<_>>();
    // Outputs are never inputs too; indices come last, because a wrong one is no number but a fault.
    views.sort_by_key(|(name, view)| (!is_output(op, name), view.dtype == DType::U32));
    let mut count = 0u32;
    for (name, view) in views {
        let region = match view.region {
            Region::Weights => &mut weights[..],
            Region::Arena => &mut arena[..],
        };
        for at in elements(&view) {
            count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let small = (count >> 24) as i32 - 128;
            let value = small as f32 / 64.0;
            let to = &mut region[at..at + view.dtype.size()];
            match view.dtype {
                _ if is_output(op, name) => to.fill(if view.dtype == DType::I8 { 0x80 } else { 0xff }),
                DType::F32 => to.copy_from_slice(&value.to_le_bytes()),
                DType::F16 => to.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
                DType::BF16 => to.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
                DType::I8 => to.copy_from_slice(&(small.max(-127) as i8).to_le_bytes()),
                DType::U32 => to.copy_from_slice(&index(op, small as u32, at, &view).to_le_bytes()),
            }
        }
    }
    (weights, arena)
}

/// A number that the data of a u32 view may hold; core writes them, never a file.
fn index(op: &Op, random: u32, at: usize, view: &View) -> u32 {
    let below = |n: usize| random % u32::try_from(n).unwrap_or(u32::MAX).max(1);
    match op {
        Op::ClassCondition(op) => below(op.table.rows),
        Op::ContextTokens(op) => below(op.table.rows),
        Op::NormModulate(op) => below(op.modulation.table.rows),
        Op::Linear(Linear { epilogue: Epilogue::GatedResidual { modulation, .. }, .. }) => below(modulation.table.rows),
        Op::GatherRows(op) => below(op.x.rows / op.count),
        Op::CausalAttention(op) => below(op.out.rows / op.lengths.cols + 1),
        // The last word is the slot, those before are numbers; no weight is so small that it is as good as none.
        Op::SolverStep(_) if at == view.offset + 40 => random % 4,
        Op::SolverStep(_) => (1.5 + (random % 64) as f32 / 64.0).to_bits(),
        _ => random,
    }
}

/// Returns whether the kernel writes the view and does not read what was there.
fn is_output(op: &Op, name: &str) -> bool {
    let adds = matches!(op, Op::Linear(Linear { epilogue: Epilogue::Residual | Epilogue::GatedResidual { .. }, .. }));
    name.starts_with("out") && !adds
}

/// A linear layer's weights, packed; nothing for other kernels.
fn pack_weights(op: &Op, file: &[u8], isa: Isa) -> ExactBytes {
    let weights: Vec<Weight> = match op {
        Op::Linear(Linear { w, epilogue: Epilogue::Swiglu { gate, .. }, .. }) => vec![*w, *gate],
        Op::Linear(Linear { w, .. }) => vec![*w],
        _ => Vec::new(),
    };
    // Dequantised weights lie in the arena and are never packed.
    let weights = weights.into_iter().filter(|w| w.data.region == Region::Weights).collect::<Vec<_>>();
    let scaled = |w: &Weight| w.scale.is_none_or(|scale| scale.region == Region::Weights);
    if weights.is_empty() || !weights.iter().all(scaled) {
        return ExactBytes::zeroed(0);
    }
    let len = packed_bytes(weights.iter().copied(), isa).expect("an address");
    let mut packed = ExactBytes::zeroed(len);
    pack(file, weights.iter().copied(), isa, &mut packed, &Serial, &mut |_| {});
    packed
}

/// The views that the kernel writes.
fn written(op: &Op) -> Vec<View> {
    let views = parts::views(&mut op.clone()).into_iter().map(|(name, view)| (name, *view)).collect::<Vec<_>>();
    views.into_iter().filter(|(name, _)| parts::writes(op, name)).map(|(_, view)| view).collect()
}

/// The same bytes, all NaN alike: which one comes out of two is the compiler's choice.
fn same(op: &Op, a: &[u8], b: &[u8]) -> bool {
    let is_nan = |view: &View, bytes: &[u8], at: usize| {
        let mut copy = bytes[at..at + view.dtype.size()].to_vec();
        let one = View { region: Region::Arena, offset: 0, rows: 1, cols: 1, stride: 1, ..*view };
        view.dtype != DType::U32 && Memory { weights: &[], arena: &mut copy }.load(&one, 0, 0).is_nan()
    };
    a == b
        || written(op).iter().all(|view| {
            elements(view).all(|at| {
                let bytes = at..at + view.dtype.size();
                a[bytes.clone()] == b[bytes] || is_nan(view, a, at) && is_nan(view, b, at)
            })
        })
}

/// Compares with the reference, loosely: a wrong element is off by far more.
fn close(op: &Op, before: &[u8], got: &[u8], want: &[u8], sane: bool) -> Result<(), String> {
    let outputs = written(op);
    let mut untouched = got.to_vec();
    for view in &outputs {
        for at in elements(view) {
            untouched[at..at + view.dtype.size()].copy_from_slice(&before[at..at + view.dtype.size()]);
        }
    }
    if let Some(at) = untouched.iter().zip(before).position(|(a, b)| a != b) {
        return Err(format!("byte {at} of the arena is not the kernel's, and changed"));
    }
    let (mut got, mut want) = (got.to_vec(), want.to_vec());
    let (got, want) = (Memory { weights: &[], arena: &mut got }, Memory { weights: &[], arena: &mut want });
    for view in outputs.iter().filter(|view| sane && is_compared(op, view)) {
        let cells = || (0..view.rows).flat_map(|r| (0..view.cols).map(move |c| (r, c)));
        let largest = cells().map(|(r, c)| want.load(view, r, c).abs()).fold(0.0, f64::max);
        // An int8 near a tie may round either way.
        let allowed = if view.dtype == DType::I8 { 1.0 } else { tolerance(op) * (1.0 + largest) };
        for (r, c) in cells() {
            let (got, want) = (got.load(view, r, c), want.load(view, r, c));
            if (got - want).abs() > allowed || got.is_nan() != want.is_nan() {
                return Err(format!("({r}, {c}) is {got:e}, not {want:e} ± {allowed:.1e}"));
            }
        }
    }
    Ok(())
}

/// Returns whether all numbers that the kernel reads are of moderate size. Where views of different types share memory,
/// they may be anything.
fn is_sane(op: &Op, weights: &[u8], arena: &mut [u8]) -> bool {
    let memory = Memory { weights, arena };
    let moderate = |x: f64| x == 0.0 || (1e-3..=64.0).contains(&x.abs());
    parts::views(&mut op.clone()).into_iter().filter(|(name, _)| !is_output(op, name)).all(|(_, view)| {
        matches!(view.dtype, DType::I8 | DType::U32)
            || (0..view.rows).all(|r| (0..view.cols).all(|c| moderate(memory.load(view, r, c))))
    })
}

/// Returns whether a written view's numbers are those of the reference: some views are scratch, and what a shared mean
/// leaves depends on how that was rounded.
fn is_compared(op: &Op, view: &View) -> bool {
    match op {
        Op::Swiglu(op) => *view != op.x,
        Op::QuantizeRows(QuantizeRows { x, shared_mean, .. }) => view != x && shared_mean.is_none(),
        Op::NormModulate(op) => op.shared_mean.is_none(),
        _ => true,
    }
}

/// The difference allowed, as a share of the largest result. 16-bit results and factors have 8 bits or more.
fn tolerance(op: &Op) -> f64 {
    let is_short = |view: &View| matches!(view.dtype, DType::F16 | DType::BF16);
    match op {
        Op::Attention(op) if op.products == DType::BF16 => 0.05,
        _ if written(op).iter().any(is_short) => 0.02,
        _ => 2e-3,
    }
}

/// The first byte of every element.
fn elements(view: &View) -> impl Iterator<Item = usize> + use<> {
    let View { dtype, offset, rows, cols, stride, .. } = *view;
    (0..rows).flat_map(move |r| (0..cols).map(move |c| offset + (r * stride + c) * dtype.size()))
}

/// Three threads in name, which take the tasks from last to first.
struct Reversed;

// SAFETY: each task once, and none after it returns.
unsafe impl Executor for Reversed {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).rev().for_each(task);
    }
}
