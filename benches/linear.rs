//! Linear layers of the networks on one thread: GFLOP/s of every instruction set and type, and the share of the
//! machine's peak, which is measured in the same run. `linear [--isa NAME] [--type T] [--shape MxNxK]`.

use std::time::Duration;

use denoir::{AlignedBytes, Isa};
use denoir_core::cpu::{Cpu, pack, packed_bytes};
use denoir_core::ops::{Bounds, Epilogue, Linear, Recorder};
use denoir_core::{DType, Region, Serial, View, Weight};

/// Rows, columns and depth: JiT-B/16's and PixelGen-XL's layers over 256 image tokens and 32 context tokens.
const SHAPES: [(&str, [usize; 3]); 8] = [
    ("b16.qkv", [288, 2304, 768]),
    ("b16.proj", [288, 768, 768]),
    ("b16.w12", [288, 4096, 768]),
    ("b16.w3", [288, 768, 2048]),
    ("xl.qkv", [288, 3456, 1152]),
    ("xl.proj", [288, 1152, 1152]),
    ("xl.w12", [288, 6144, 1152]),
    ("xl.w3", [288, 1152, 3072]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    for isa in Isa::available().filter(|isa| value("--isa").is_none_or(|name| name == isa.name())) {
        for dtype in [DType::I8, DType::BF16, DType::F32, DType::F16] {
            if value("--type").is_some_and(|name| name != dtype.name()) {
                continue;
            }
            let peak = peak(isa, dtype);
            print!("{:12} {:5} peak {:5.0}", isa.name(), dtype.name(), peak.unwrap_or(f64::NAN));
            if let Some(shape) = value("--shape") {
                let mut sizes = shape.split('x').map(|n| n.parse().expect("MxNxK"));
                let shape = std::array::from_fn(|_| sizes.next().expect("MxNxK"));
                println!("  {:6.0}", gflops(isa, dtype, shape));
                continue;
            }
            for (name, shape) in SHAPES {
                let reached = gflops(isa, dtype, shape);
                print!("  {name} {reached:5.0}");
                peak.inspect(|peak| print!(" {:3.0}%", 100.0 * reached / peak));
            }
            println!();
        }
    }
}

/// GFLOP/s of one core's multipliers.
fn peak(isa: Isa, dtype: DType) -> Option<f64> {
    let once = || {
        let start = cpu_time();
        Some(isa.spin(dtype)? / (cpu_time() - start).as_secs_f64().max(1e-9) / 1e9)
    };
    // The clock moves in milliseconds: runs of tens of them.
    (0..5).filter_map(|_| once()).reduce(f64::max)
}

fn gflops(isa: Isa, w: DType, [m, n, k]: [usize; 3]) -> f64 {
    let x = if w == DType::I8 || w == isa.precision().bf16 && w == DType::BF16 { w } else { DType::F32 };
    let data = View::dense(Region::Weights, w, 0, n, k);
    let scales = data.len_bytes().unwrap().next_multiple_of(64);
    let scale = (w == DType::I8).then(|| View::dense(Region::Weights, DType::F32, scales, 1, n));
    let stride = k.next_multiple_of(64);
    let inputs = View { stride, ..View::dense(Region::Arena, x, 0, m, k) };
    let x_scales = (m * stride * x.size()).next_multiple_of(64);
    let x_scale = (x == DType::I8).then(|| View::dense(Region::Arena, DType::F32, x_scales, 1, m));
    let out = View::dense(Region::Arena, DType::F32, (x_scales + 4 * m).next_multiple_of(64), m, n);
    let w = Weight { data, scale };
    let op = Linear { x: inputs, x_scale, w, bias: None, out, epilogue: Epilogue::Store };
    let bounds = Bounds { weights: scales + 4 * n, arena: out.offset + 4 * m * n };
    let file = AlignedBytes::zeroed(bounds.weights).unwrap();
    let mut arena = AlignedBytes::zeroed(bounds.arena).unwrap();
    let mut packed = AlignedBytes::zeroed(packed_bytes([w].iter(), isa).unwrap()).unwrap();
    pack(file.as_slice(), [w].iter(), isa, packed.as_mut_slice(), &Serial, &mut |_| ());
    let mut cpu = Cpu::new(file.as_slice(), arena.as_mut_slice(), Serial, isa).unwrap().with_packed(packed.as_slice());
    // SAFETY: the sizes of the regions above.
    let mut recorder = unsafe { Recorder::new(&mut cpu, bounds) };
    let (mut runs, start) = (0, cpu_time());
    while cpu_time() - start < Duration::from_millis(150) {
        // Reading the clock costs microseconds.
        for _ in 0..1 + 100_000_000 / (m * n * k) {
            recorder.linear(&op).unwrap();
            runs += 1;
        }
    }
    2e-9 * (m * n * k * runs) as f64 / (cpu_time() - start).as_secs_f64()
}

/// The calling thread's time on a processor: on a busy machine the only time that means something.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}
