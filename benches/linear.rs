//! Linear layers of the networks on one thread: GFLOP/s of every instruction set and type, and the share of the
//! machine's peak, which is measured in the same run. `linear [--isa NAME] [--type T] [--shape MxNxK]`.

use std::time::{Duration, Instant};

use denoir::Isa;
use denoir_benches::{Layer, Stage, peak};
use denoir_core::DType;

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
                println!("  {:6.0}", gflops(isa, dtype, Layer::Plain, shape));
                continue;
            }
            for (name, shape) in SHAPES {
                let layer = match name.rsplit('.').next() {
                    Some("w12") => Layer::Gated,
                    Some("w3") => Layer::Plain,
                    _ => Layer::Centred,
                };
                let reached = gflops(isa, dtype, layer, shape);
                print!("  {name} {reached:5.0}");
                peak.inspect(|peak| print!(" {:3.0}%", 100.0 * reached / peak));
            }
            println!();
        }
    }
}

/// The best of what runs within some tenths of a second: a run takes milliseconds, and something else may run.
fn gflops(isa: Isa, dtype: DType, layer: Layer, shape: [usize; 3]) -> f64 {
    let mut stage = Stage::linear(isa, dtype, layer, shape);
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        stage.run(1);
        best = best.min(start.elapsed());
    }
    stage.flop / 1e9 / best.as_secs_f64()
}
