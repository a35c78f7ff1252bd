//! What a launch should take.

use std::ops::AddAssign;

use denoir_core::DType;
use denoir_core::View;
use denoir_core::ops::{Attention, Epilogue, Linear, Op};
use denoir_cuda::{DeviceInfo, PlannedLaunch};

use crate::cache::{Cache, parts};
use crate::card::Card;

/// f32 multiply-adds, and exponentials, of a multiprocessor in a clock.
const FMA: f64 = 128.0;
const EXPONENTIALS: f64 = 16.0;
/// The part of the peak that kernels without tensor cores reach.
const SCALAR_SHARE: f64 = 0.5;
/// Clocks before a block's first product and after its last.
const ENDS: f64 = 1950.0;

/// What a launch needs of a card, and the time that it should take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Microseconds, with the gap before the next kernel.
    pub(crate) us: f64,
    /// The least that any kernel could take: operations over the peak, or bytes over the memory's rate.
    pub(crate) floor_us: f64,
    /// `mma.sync` instructions.
    pub(crate) products: f64,
    /// Bytes that blocks ask the second-level cache for, and bytes from memory and to it.
    pub(crate) l2_bytes: f64,
    pub(crate) bytes: f64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.us += other.us;
        self.floor_us += other.floor_us;
        self.products += other.products;
        self.l2_bytes += other.l2_bytes;
        self.bytes += other.bytes;
    }
}

/// Multiply-adds of one `mma.sync`.
fn per_product(dtype: DType) -> f64 {
    if dtype == DType::I8 { 16.0 * 8.0 * 32.0 } else { 16.0 * 8.0 * 16.0 }
}

/// The cost of a launch after those that filled the cache.
pub(crate) fn of(card: &Card, info: &DeviceInfo, launch: &PlannedLaunch, cache: &mut Cache) -> Cost {
    let (l2_bytes, bytes) = traffic(card, launch, cache);
    let (clocks, peak_clocks, products) = match &launch.op {
        Op::Linear(op) => linear(card, info, launch, op),
        Op::Attention(op) => attention(card, info, launch, op),
        // One pass over its operands.
        _ => (0.0, 0.0, 0.0),
    };
    let (l2_us, memory_us) = (card.us(l2_bytes / card.l2_rate), bytes / card.memory / 1e3);
    let ends = if clocks > 0.0 { 0.0 } else { card.us(ENDS / 2.0) };
    let us = card.us(clocks).max(l2_us).max(memory_us) + ends + card.gap_in_graph();
    Cost { us, floor_us: card.us(peak_clocks).max(memory_us), products, l2_bytes, bytes }
}

/// Clocks that it should take and clocks at the peak, of all multiprocessors together, and products.
fn linear(card: &Card, info: &DeviceInfo, launch: &PlannedLaunch, op: &Linear) -> (f64, f64, f64) {
    let twice = if matches!(op.epilogue, Epilogue::Swiglu { .. }) { 2.0 } else { 1.0 };
    let macs = twice * op.out.cols as f64 * op.x.rows as f64 * op.x.cols as f64;
    let all = info.multiprocessors as f64;
    match launch.expected_clocks(info) {
        Some(clocks) => {
            let peak = card.peak[usize::from(op.x.dtype == DType::I8)];
            (clocks, macs / peak / all, macs / per_product(op.x.dtype))
        }
        None => {
            let waves = (f64::from(launch.grid[0]) * f64::from(launch.grid[1]) / all).ceil();
            let block = 64.0 * 64.0 * op.x.cols as f64 / (FMA * SCALAR_SHARE);
            (waves * block + ENDS, macs / FMA / all, 0.0)
        }
    }
}

/// A block takes its 64 queries through 64 keys at a time: two products, and about a dozen instructions for each score.
fn attention(card: &Card, info: &DeviceInfo, launch: &PlannedLaunch, op: &Attention) -> (f64, f64, f64) {
    let padded = launch.kernel.rsplit('_').next().and_then(|width| width.parse::<f64>().ok()).unwrap_or(128.0);
    let rate = denoir_cuda::products_per_clock(info, DType::BF16).unwrap_or(FMA);
    let all = info.multiprocessors as f64;
    let (queries, keys) = (op.queries.tokens() as f64, op.keys.tokens() as f64);
    let heads = (op.heads * op.queries.images) as f64;
    // Exact factors are two of 16 bits each, and three products of four are taken.
    let exact = if op.is_rounded() { 1.0 } else { 3.0 };
    let scores = 64.0 * 64.0;
    let loads = exact * 8.0 * (32.0 * padded * 2.0 * 2.0) / 128.0;
    let tile = exact * 2.0 * scores * padded / rate + loads + scores / EXPONENTIALS + scores * 12.0 / FMA;
    let waves = (f64::from(launch.grid.iter().product::<u32>()) / all).ceil();
    let clocks = waves * ((keys / 64.0).ceil() * tile + ENDS);
    let macs = 2.0 * heads * queries * keys * op.head_dim() as f64;
    let tensor = exact * 2.0 * heads * (queries / 64.0).ceil() * (keys / 64.0).ceil() * scores * padded;
    (clocks, macs / card.peak[0] / all, tensor / per_product(DType::BF16))
}

/// Bytes that blocks ask for, and bytes from memory and to it: what is written and not read again soon goes there too.
fn traffic(card: &Card, launch: &PlannedLaunch, cache: &mut Cache) -> (f64, f64) {
    let (mut asked, mut missed) = (0, 0);
    let mut count = |(used, absent): (usize, usize)| {
        asked += used;
        missed += absent;
    };
    if let (Op::Linear(op), Some([rows, cols])) = (&launch.op, tile(launch)) {
        let gate = match &op.epilogue {
            Epilogue::Swiglu { gate, .. } => Some(gate.data),
            _ => None,
        };
        let cols = if gate.is_some() { cols / 2 } else { cols };
        // Blocks start in order, rows first, and walk along K together.
        let [row_tiles, columns, turns] = launch.grid.map(|blocks| blocks as usize);
        let turn_of = |turn| move |col| (turn * row_tiles..(turn + 1) * row_tiles).map(move |row| (row, col));
        let blocks: Vec<(usize, usize)> = (0..turns)
            .flat_map(|turn| (0..columns).flat_map(turn_of(turn)))
            .filter(|(row, _)| row * rows < op.x.rows)
            .collect();
        for at_once in blocks.chunks(card.multiprocessors) {
            for part in 0..parts(&op.x) {
                for &(row, col) in at_once {
                    count(cache.touch(&op.x, row * rows, (row + 1) * rows, Some(part)));
                    for w in std::iter::once(op.w.data).chain(gate) {
                        count(cache.touch(&w, col * cols, (col + 1) * cols, Some(part)));
                    }
                }
            }
        }
        count(cache.touch_all(&op.out));
    } else {
        for view in operands(&launch.op) {
            count(cache.touch_all(&view));
        }
    }
    (asked as f64, missed as f64)
}

/// The tile in a linear kernel's name, of those with tensor cores.
fn tile(launch: &PlannedLaunch) -> Option<[usize; 2]> {
    let (rows, cols) = launch.kernel.rsplit('_').next()?.split_once('x')?;
    Some([rows.parse().ok()?, cols.parse().ok()?])
}

/// The large operands of a kernel.
fn operands(op: &Op) -> Vec<View> {
    match op {
        Op::Linear(op) => vec![op.x, op.w.data, op.out],
        Op::ClassCondition(op) => vec![op.t_emb, op.out],
        Op::ContextTokens(op) => vec![op.position, op.out],
        Op::Patchify(op) => vec![op.image, op.out],
        Op::Unpatchify(op) => vec![op.x, op.out],
        Op::NormModulate(op) => vec![op.x, op.out],
        Op::RmsNorm(op) => vec![op.x, op.out],
        Op::LayerNorm(op) => vec![op.x, op.out],
        Op::QkNormRope(op) => vec![op.qkv, op.out.unwrap_or(op.qkv)],
        Op::Attention(op) => vec![op.q, op.k, op.v, op.out],
        Op::CausalAttention(op) => vec![op.q, op.k, op.v, op.out],
        Op::Swiglu(op) => vec![op.x, op.out],
        Op::QuantizeRows(op) => vec![op.x, op.out],
        Op::GatherRows(op) => vec![op.out, op.out],
        Op::DequantizeBlocks(op) => vec![op.x, op.out],
        Op::SolverStep(op) => vec![op.x, op.x_eval, op.x_hat, op.velocity],
    }
}
