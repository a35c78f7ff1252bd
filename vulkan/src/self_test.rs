//! Each tier runs small kernels that are compared with the reference: drivers are not always right.

use std::sync::Arc;
use std::time::Instant;

use denoir_core::backend::{Backend, Program};
use denoir_core::ops::{Attention, Epilogue, Linear, Memory, Op, OpError, Recorder};
use denoir_core::{DType, Region, TokenLayout, View, Weight};

use crate::engine::Gpu;
use crate::tier::Tiers;
use crate::{Error, Tier};

/// Sizes of products that fill no tile.
const M: usize = 70;
const N: usize = 131;
const K: usize = 150;
/// Tokens of attention that fill no tile, of an image and beside it; images, heads.
const TOKENS: usize = 37;
const CONTEXT: usize = 3;
const IMAGES: usize = 2;
const HEADS: usize = 2;
/// Rows, columns and depth of the product that is timed: one that every device runs with the same kernel.
const TIMED: [usize; 3] = [512, 512, 256];
/// ‖Δ‖² / ‖reference‖² at most: operands are the same on both sides, so that only the order of sums differs.
const EXACT: f64 = 1e-10;
/// The same where factors may be rounded to bf16.
const ROUNDED: f64 = 1e-5;

/// A kernel and what it reads and writes.
struct Case {
    op: Op,
    inputs: Vec<View>,
    /// f32, without padding.
    out: View,
    limit: f64,
}

/// Disables the tiers that compute wrongly and measures the device's speed.
pub(crate) fn run(gpu: &mut Gpu) -> Result<(), Error> {
    for tier in Tier::ALL {
        // Higher tiers would take the kernels away.
        let tiers = gpu.tiers().up_to(tier);
        if !tiers.has(tier) || cases(tier).iter().try_fold(true, |all, case| Ok(all && right(gpu, tiers, case)?))? {
            continue;
        }
        if tier == Tier::Floor {
            return Err(Error::SelfTest { device: gpu.info().name.clone() });
        }
        gpu.disable(tier);
    }
    let speed = speed(gpu)?;
    gpu.set_speed(speed);
    Ok(())
}

/// Every kernel that a tier brings, in every type: a processor has one for heads of 64 channels, and one for longer ones.
fn cases(tier: Tier) -> Vec<Case> {
    match tier {
        Tier::Floor => vec![
            product(DType::F32),
            product(DType::I8),
            attention(64, DType::F32, EXACT),
            attention(72, DType::F32, EXACT),
        ],
        Tier::Fp16 => vec![product(DType::F16)],
        Tier::Int8 => vec![product(DType::I8)],
        Tier::Matrix => vec![
            product(DType::F16),
            product(DType::BF16),
            product(DType::I8),
            // Short heads: software takes long to compile others.
            attention(32, DType::F32, EXACT),
            attention(32, DType::BF16, ROUNDED),
        ],
    }
}

/// Whether a kernel agrees with the reference.
fn right(gpu: &Gpu, tiers: Tiers, case: &Case) -> Result<bool, Error> {
    let (weights, mut arena) = memory(case);
    let mut engine = gpu.engine_with(tiers, Arc::new(weights.clone()), arena.len())?;
    engine.write(&View::dense(Region::Arena, DType::I8, 0, 1, arena.len()), &arena)?;
    let mut got = vec![0u8; 4 * case.out.rows * case.out.cols];
    run_kernel(&mut engine, &case.op)?;
    engine.read(&case.out, &mut got)?;

    let mut reference = Memory { weights: &weights, arena: &mut arena };
    let bounds = engine.bounds();
    // SAFETY: both slices have the lengths that the engine was made with.
    let judged = case.op.record(&mut unsafe { Recorder::new(&mut reference, bounds) });
    let (mut error, mut norm) = (0.0, 0.0);
    for (r, row) in got.chunks_exact(4 * case.out.cols).enumerate() {
        for (c, bytes) in row.chunks_exact(4).enumerate() {
            let want = reference.load(&case.out, r, c);
            let got = f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            error += (got - want) * (got - want);
            norm += want * want;
        }
    }
    // A NaN fails.
    Ok(judged.is_ok() && error <= case.limit * norm)
}

/// Floating-point operations a second of an f32 product.
fn speed(gpu: &Gpu) -> Result<f64, Error> {
    let [m, n, k] = TIMED;
    let case = product_of(DType::F32, m, n, k);
    let (weights, arena) = memory(&case);
    let mut engine = gpu.engine_with(gpu.tiers(), Arc::new(weights), arena.len())?;
    let mut sample = [0u8; 4];
    let first = View::dense(Region::Arena, DType::F32, case.out.offset, 1, 1);
    // The first run compiles.
    run_kernel(&mut engine, &case.op)?;
    engine.read(&first, &mut sample)?;
    let start = Instant::now();
    run_kernel(&mut engine, &case.op)?;
    engine.read(&first, &mut sample)?;
    Ok((2 * m * n * k) as f64 / start.elapsed().as_secs_f64().max(1e-6))
}

fn run_kernel(engine: &mut crate::Vulkan, op: &Op) -> Result<(), Error> {
    denoir_core::backend::run(engine, Program::Predict { images: 1 }, |k| op.record(k)).map_err(|e| match e {
        OpError::Device(e) => e,
        // The descriptor is this file's own.
        _ => Error::Missing { device: "self-test".into(), what: "a valid kernel" },
    })
}

fn product(dtype: DType) -> Case {
    product_of(dtype, M, N, K)
}

/// `x · wᵀ`: `x` and `out` in the arena, `w` in the weights, scales after them.
fn product_of(dtype: DType, m: usize, n: usize, k: usize) -> Case {
    let x = View::dense(Region::Arena, dtype, 0, m, k);
    let w = View::dense(Region::Weights, dtype, 0, n, k);
    let x_scale = View::dense(Region::Arena, DType::F32, after(&x), 1, m);
    let w_scale = View::dense(Region::Weights, DType::F32, after(&w), 1, n);
    let out = View::dense(Region::Arena, DType::F32, after(&x_scale), m, n);
    let scaled = |scale| Some(scale).filter(|_| dtype == DType::I8);
    let op = Linear {
        x,
        x_scale: scaled(x_scale),
        centre: None,
        w: Weight { data: w, scale: scaled(w_scale), rest: None },
        bias: None,
        out,
        epilogue: Epilogue::Store,
    };
    let inputs = [Some(x), Some(w), op.x_scale, op.w.scale].into_iter().flatten().collect();
    Case { op: Op::Linear(op), inputs, out, limit: EXACT }
}

/// Attention of all tokens to all tokens of an image, from queries, keys and values side by side.
fn attention(head_dim: usize, products: DType, limit: f64) -> Case {
    let layout = TokenLayout { images: IMAGES, image_tokens: TOKENS, context_tokens: CONTEXT };
    let width = HEADS * head_dim;
    let qkv = View::dense(Region::Arena, DType::F32, 0, layout.rows(), 3 * width);
    let part = |i| qkv.cols_from(i * width, width);
    let out = View::dense(Region::Arena, DType::F32, after(&qkv), layout.rows(), width);
    let (q, k, v) = (part(0), part(1), part(2));
    let op = Attention { q, k, v, heads: HEADS, queries: layout, keys: layout, products, out };
    Case { op: Op::Attention(op), inputs: vec![qkv], out, limit }
}

/// Where a view of the same region may start.
fn after(view: &View) -> usize {
    (view.offset + view.len_bytes().unwrap_or(0)).next_multiple_of(256)
}

/// Weights and arena with operands of a few small values, exact in every type, and NaN where the result is to come.
fn memory(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let (mut weights, mut arena) = (Vec::new(), Vec::new());
    let mut seed = 1u32;
    for view in case.inputs.iter().chain([&case.out]) {
        let bytes = if view.region == Region::Weights { &mut weights } else { &mut arena };
        let end = view.offset + view.len_bytes().unwrap_or(0);
        bytes.resize(end.max(bytes.len()), 0);
        if *view == case.out {
            bytes[view.offset..].fill(0xff)
        } else {
            fill(&mut bytes[view.offset..], view.dtype, &mut seed)
        }
    }
    (weights, arena)
}

fn fill(bytes: &mut [u8], dtype: DType, seed: &mut u32) {
    for element in bytes.chunks_exact_mut(dtype.size()) {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let small = (*seed >> 24) as u8;
        match dtype {
            DType::I8 => element[0] = small,
            // ±1 to ±1.97 in steps of 1/32: the sign, an exponent of 0, five bits of fraction.
            DType::F16 => element
                .copy_from_slice(&(u16::from(small & 0x80) << 8 | 15 << 10 | u16::from(small & 31) << 5).to_le_bytes()),
            DType::BF16 => element
                .copy_from_slice(&(u16::from(small & 0x80) << 8 | 127 << 7 | u16::from(small & 31) << 2).to_le_bytes()),
            _ => element.copy_from_slice(
                &(u32::from(small & 0x80) << 24 | 127 << 23 | u32::from(small & 31) << 18).to_le_bytes(),
            ),
        }
    }
}
