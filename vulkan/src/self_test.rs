//! Each tier computes a small product that is compared with the reference: drivers are not always right.

use std::sync::Arc;
use std::time::Instant;

use denoir_core::backend::{Backend, Program};
use denoir_core::ops::{Epilogue, Linear, Memory, OpError, Recorder};
use denoir_core::{DType, Region, View, Weight};

use crate::engine::Gpu;
use crate::tier::Tiers;
use crate::{Error, Tier};

/// Sizes that fill no tile.
const M: usize = 70;
const N: usize = 131;
const K: usize = 150;
/// Rows, columns and depth of the product that is timed: one that every device runs with the same kernel.
const TIMED: [usize; 3] = [512, 512, 256];

/// Disables the tiers that compute wrongly and measures the device's speed.
pub(crate) fn run(gpu: &mut Gpu) -> Result<(), Error> {
    let broken = || Error::SelfTest { device: gpu.info().name.clone() };
    let floor = Tiers::default();
    if !right(gpu, floor, DType::F32)? || !right(gpu, floor, DType::I8)? {
        return Err(broken());
    }
    for (tier, dtype) in [
        (Tier::Fp16, DType::F16),
        (Tier::Int8, DType::I8),
        (Tier::Matrix, DType::F16),
        (Tier::Matrix, DType::BF16),
        (Tier::Matrix, DType::I8),
    ] {
        // Higher tiers would take the product away.
        if gpu.tiers().has(tier) && !right(gpu, gpu.tiers().up_to(tier), dtype)? {
            gpu.disable(tier);
        }
    }
    let speed = speed(gpu)?;
    gpu.set_speed(speed);
    Ok(())
}

/// Whether `x · wᵀ` in this type agrees with the reference.
fn right(gpu: &Gpu, tiers: Tiers, dtype: DType) -> Result<bool, Error> {
    let op = product(dtype, M, N, K);
    let (weights, mut arena) = memory(&op, dtype);
    let mut engine = gpu.engine_with(tiers, Arc::new(weights.clone()), arena.len())?;
    let whole = View::dense(Region::Arena, DType::I8, 0, 1, arena.len());
    engine.write(&whole, &arena)?;
    let mut got = vec![0u8; 4 * M * N];
    run_linear(&mut engine, &op)?;
    engine.read(&op.out, &mut got)?;

    let mut reference = Memory { weights: &weights, arena: &mut arena };
    let bounds = engine.bounds();
    // SAFETY: both slices have the lengths that the engine was made with.
    let judged = unsafe { Recorder::new(&mut reference, bounds) }.linear(&op);
    let (mut error, mut norm) = (0.0, 0.0);
    for (r, row) in got.chunks_exact(4 * N).enumerate() {
        for (c, bytes) in row.chunks_exact(4).enumerate() {
            let want = reference.load(&op.out, r, c);
            let got = f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            error += (got - want) * (got - want);
            norm += want * want;
        }
    }
    // A NaN fails. Operands are the same on both sides, so that only the order of sums differs.
    Ok(judged.is_ok() && error <= 1e-10 * norm)
}

/// Floating-point operations a second of an f32 product.
fn speed(gpu: &Gpu) -> Result<f64, Error> {
    let [m, n, k] = TIMED;
    let op = product(DType::F32, m, n, k);
    let (weights, arena) = memory(&op, DType::F32);
    let mut engine = gpu.engine_with(gpu.tiers(), Arc::new(weights), arena.len())?;
    let mut sample = [0u8; 4];
    let first = View::dense(Region::Arena, DType::F32, op.out.offset, 1, 1);
    // The first run compiles.
    run_linear(&mut engine, &op)?;
    engine.read(&first, &mut sample)?;
    let start = Instant::now();
    run_linear(&mut engine, &op)?;
    engine.read(&first, &mut sample)?;
    Ok((2 * m * n * k) as f64 / start.elapsed().as_secs_f64().max(1e-6))
}

fn run_linear(engine: &mut crate::Vulkan, op: &Linear) -> Result<(), Error> {
    denoir_core::backend::run(engine, Program::Predict { images: 1 }, |k| k.linear(op)).map_err(|e| match e {
        OpError::Device(e) => e,
        // The descriptor is this file's own.
        _ => Error::Missing { device: "self-test".into(), what: "a valid kernel" },
    })
}

/// `x` and `out` in the arena, `w` in the weights, scales after them.
fn product(dtype: DType, m: usize, n: usize, k: usize) -> Linear {
    let x = View::dense(Region::Arena, dtype, 0, m, k);
    let w = View::dense(Region::Weights, dtype, 0, n, k);
    let after = |view: View| (view.offset + view.len_bytes().unwrap_or(0)).next_multiple_of(256);
    let x_scale = View::dense(Region::Arena, DType::F32, after(x), 1, m);
    let w_scale = View::dense(Region::Weights, DType::F32, after(w), 1, n);
    let int8 = dtype == DType::I8;
    Linear {
        x,
        x_scale: int8.then_some(x_scale),
        w: Weight { data: w, scale: int8.then_some(w_scale) },
        bias: None,
        out: View::dense(Region::Arena, DType::F32, after(x_scale), m, n),
        epilogue: Epilogue::Store,
    }
}

/// Weights and arena with operands of a few small values, exact in every type.
fn memory(op: &Linear, dtype: DType) -> (Vec<u8>, Vec<u8>) {
    let end = |view: &View| view.offset + view.len_bytes().unwrap_or(0);
    let mut weights = vec![0; op.w.scale.as_ref().map_or(end(&op.w.data), end)];
    let mut arena = vec![0; end(&op.out)];
    let mut seed = 1u32;
    fill(&mut weights, &op.w.data, dtype, &mut seed);
    fill(&mut arena, &op.x, dtype, &mut seed);
    for (bytes, scale) in [(&mut weights, op.w.scale), (&mut arena, op.x_scale)] {
        if let Some(scale) = scale {
            fill(bytes, &scale, DType::F32, &mut seed);
        }
    }
    (weights, arena)
}

fn fill(bytes: &mut [u8], view: &View, dtype: DType, seed: &mut u32) {
    let size = dtype.size();
    for element in bytes[view.offset..][..view.rows * view.cols * size].chunks_exact_mut(size) {
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
