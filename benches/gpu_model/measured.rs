//! The model beside figures of real cards.

use anyhow::{Context, anyhow};
use denoir_core::backend::{Program, run};
use denoir_core::ops::{Bounds, Epilogue, Linear};
use denoir_core::{DType, Region, View, Weight};
use denoir_cuda::Planner;

use crate::card::Card;

/// The record with an H200's figures.
const RECORD: &str = include_str!("../record/2026-11-28-h200.md");

/// What others publish of the cards: the shape, the card, and the rate in 10¹² operations a second.
const PUBLISHED: [(&str, [usize; 3], DType, &str, &str); 3] = [
    ("orin-agx", [4096, 4096, 4096], DType::I8, "58-64", "CUTLASS, tiles of 128 × 128 × 64"),
    ("a100", [8192, 8192, 8192], DType::BF16, "250-270", "cuBLAS"),
    ("rtx4090", [8192, 8192, 8192], DType::BF16, "150-160", "cuBLAS"),
];

/// Prints the linear layers of the H200's record: the fastest that was measured, cuBLAS, and what the model says of
/// today's kernels. Then what others publish.
pub(crate) fn compare() -> anyhow::Result<()> {
    let card = Card::find("h200").context("no H200")?;
    let (mut count, mut ratios) = (0usize, [0.0, 0.0]);
    println!("H200, µs: measured, cuBLAS, modelled now");
    for (sizes, dtype, measured, cublas) in RECORD.lines().filter_map(row).flatten() {
        let us = linear_us(card, sizes, dtype)?;
        let [m, n, k] = sizes;
        println!("{m:5} x {n:5} x {k:4} {:5} {measured:7.1} {cublas:7.1} {us:7.1}", dtype.name());
        count += 1;
        ratios = [ratios[0] + (measured / us).ln(), ratios[1] + (cublas / us).ln()];
    }
    let [before, cublas] = ratios.map(|sum| (sum / count as f64).exp());
    println!("the model's speed is {before:.2} of what was measured, {cublas:.2} of cuBLAS', in the geometric mean");
    for (key, [m, n, k], dtype, rate, of) in PUBLISHED {
        let card = Card::find(key).context("no such card")?;
        let us = linear_us(card, [m, n, k], dtype)?;
        let ours = 2.0 * (m * n * k) as f64 / us / 1e6;
        println!("{}: {m} x {n} x {k} {}: modelled {ours:.0} TOPS, {of} {rate}", card.name, dtype.name());
    }
    Ok(())
}

/// Sizes of a linear layer, its type, and the times of the fastest tile and of cuBLAS.
type Measured = ([usize; 3], DType, f64, f64);

/// A row of the record's table, in bf16 and in int8.
fn row(line: &str) -> Option<[Measured; 2]> {
    let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let mut sizes = cells.first()?.split(" × ").map(|n| n.parse::<usize>().ok());
    let sizes = [sizes.next()??, sizes.next()??, sizes.next()??];
    let least = |cell: &str| {
        let times = cell.replace('*', "").split(" / ").map(|us| us.parse().ok()).collect::<Option<Vec<f64>>>()?;
        (times.len() > 1).then(|| times.into_iter().fold(f64::INFINITY, f64::min))
    };
    let of = |at: usize| Some((least(cells.get(at)?)?, cells.get(at + 1)?.parse::<f64>().ok()?));
    let ((bf16, bf16_cublas), (int8, int8_cublas)) = (of(2)?, of(5)?);
    Some([(sizes, DType::BF16, bf16, bf16_cublas), (sizes, DType::I8, int8, int8_cublas)])
}

/// Microseconds that a linear layer should take, with the gap before the next kernel.
fn linear_us(card: &Card, [m, n, k]: [usize; 3], dtype: DType) -> anyhow::Result<f64> {
    let (x_bytes, scales) = (m * k * dtype.size(), dtype == DType::I8);
    let x_scale = scales.then(|| View::dense(Region::Arena, DType::F32, x_bytes, 1, m));
    let out = View::dense(Region::Arena, DType::F32, (x_bytes + 4 * m).next_multiple_of(64), m, n);
    let op = Linear {
        x: View::dense(Region::Arena, dtype, 0, m, k),
        x_scale,
        shared_mean: None,
        w: Weight {
            data: View::dense(Region::Weights, dtype, 0, n, k),
            scale: scales.then(|| View::dense(Region::Weights, DType::F32, n * k, 1, n)),
            residual: None,
        },
        bias: None,
        out,
        epilogue: Epilogue::Store,
    };
    let bounds = Bounds { weights: n * k * dtype.size() + 4 * n, arena: out.offset + 4 * m * n };
    let info = card.info();
    let mut planner = Planner::new(info.clone(), None, bounds);
    let program = Program::once("linear", [0; 2]);
    run(&mut planner, program, |kernels| kernels.linear(&op)).map_err(|e| anyhow!("{e}"))?;
    let launch = planner.programs().get(&program).and_then(|planned| planned.launches.first()).context("no launch")?;
    let bytes = (n * k * dtype.size()) as f64;
    let clocks = launch.expected_clocks(&info).context("not on tensor cores")?;
    Ok(card.us(clocks).max(bytes / card.memory / 1e3) + card.gap)
}
