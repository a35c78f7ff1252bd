//! Every kernel of a block, on one thread and the fastest instruction set: `cargo bench -p denoir-benches`. What
//! criterion calls elements a second is FLOP/s here; each line is followed by the share of the machine's peak, which
//! is measured in the same run.

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use denoir::Isa;
use denoir_benches::{Layer, Stage, peak};
use denoir_core::DType;

/// A network's sizes: JiT-B/16's and PixelGen-XL's, over 256 image tokens and 32 context tokens.
struct Sizes {
    name: &'static str,
    heads: usize,
    head_dim: usize,
    ffn: usize,
}

const TOKENS: usize = 288;
const SIZES: [Sizes; 2] = [
    Sizes { name: "jit-b16", heads: 12, head_dim: 64, ffn: 2048 },
    Sizes { name: "pixelgen-xl", heads: 16, head_dim: 72, ffn: 3072 },
];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let isa = Isa::detect();
    for sizes in &SIZES {
        for dtype in [DType::I8, DType::BF16, DType::F32] {
            products(&mut criterion, isa, sizes, dtype);
            others(&mut criterion, isa, sizes, dtype);
        }
    }
    criterion.final_summary();
}

/// What multiplies, beside the peak of its type.
fn products(criterion: &mut Criterion, isa: Isa, sizes: &Sizes, dtype: DType) {
    let (hidden, ffn) = (sizes.heads * sizes.head_dim, sizes.ffn);
    let peak = peak(isa, dtype);
    for (name, layer, n, k) in [
        ("qkv", Layer::Centred, 3 * hidden, hidden),
        ("proj", Layer::Centred, hidden, hidden),
        ("w12", Layer::Gated, 2 * ffn, hidden),
        ("w3", Layer::Plain, hidden, ffn),
    ] {
        let name = format!("linear/{}/{dtype}/{name}", sizes.name);
        measure(criterion, &name, Stage::linear(isa, dtype, layer, [TOKENS, n, k]), peak);
    }
    // int8 networks attend in bf16.
    if dtype != DType::I8 {
        let name = format!("attention/{}/{dtype}", sizes.name);
        measure(criterion, &name, Stage::attention(isa, dtype, TOKENS, sizes.heads, sizes.head_dim), peak);
    }
}

/// What reads and writes, and rounds to the type of the next linear layer.
fn others(criterion: &mut Criterion, isa: Isa, sizes: &Sizes, dtype: DType) {
    let Sizes { heads, head_dim, ffn, .. } = *sizes;
    let mut run = |kernel: &str, stage| measure(criterion, &format!("{kernel}/{}/{dtype}", sizes.name), stage, None);
    run("norm_modulate", Stage::norm_modulate(isa, dtype, TOKENS, heads * head_dim));
    match dtype {
        DType::I8 => {
            run("quantize_rows/centred", Stage::quantize_rows(isa, TOKENS, heads * head_dim, false));
            run("quantize_rows/rotated", Stage::quantize_rows(isa, TOKENS, ffn, true));
        }
        DType::F32 => run("qk_norm_rope", Stage::qk_norm_rope(isa, TOKENS, heads, head_dim)),
        _ => (),
    }
}

/// One line of criterion's, and the share of the peak.
fn measure(criterion: &mut Criterion, name: &str, mut stage: Stage, peak: Option<f64>) {
    let best = Cell::new(f64::INFINITY);
    let mut group = criterion.benchmark_group("kernels");
    if stage.flop > 0.0 {
        group.throughput(Throughput::Elements(stage.flop as u64));
    }
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            stage.run(times);
            let time = start.elapsed();
            best.set(best.get().min(time.as_secs_f64() / times as f64));
            time
        });
    });
    group.finish();
    let gflops = stage.flop / 1e9 / best.get();
    if let Some(peak) = peak.filter(|_| best.get().is_finite()) {
        println!("{name}: {gflops:.0} GFLOP/s, {:.0}% of the peak of {peak:.0}", 100.0 * gflops / peak);
    }
}
