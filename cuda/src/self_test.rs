//! A small product in each type is compared with the reference: drivers are not always right.

use std::sync::Arc;

use denoir_core::backend::{self, Backend, Program};
use denoir_core::ops::{Epilogue, Linear, Memory, OpError, Recorder};
use denoir_core::{DType, Region, View, Weight};

use crate::Error;
use crate::engine::{Cuda, Gpu};

/// Sizes that fill no tile.
const M: usize = 70;
const N: usize = 131;
const K: usize = 150;

/// An error where a product of some type is wrong.
pub(crate) fn run(gpu: &Gpu) -> Result<(), Error> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        if !right(gpu, dtype)? {
            return Err(Error::SelfTest { device: gpu.info().name.clone() });
        }
    }
    Ok(())
}

/// Whether `x · wᵀ` in this type agrees with the reference.
fn right(gpu: &Gpu, dtype: DType) -> Result<bool, Error> {
    let op = product(dtype, M, N, K);
    let (weights, mut arena) = memory(&op, dtype);
    let mut engine = gpu.engine(Arc::new(weights.clone()), arena.len())?;
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

fn run_linear(engine: &mut Cuda, op: &Linear) -> Result<(), Error> {
    backend::run(engine, Program::Predict { images: 1 }, |k| k.linear(op)).map_err(|e| match e {
        OpError::Device(e) => e,
        // The descriptor is this file's own.
        _ => Error::SelfTest { device: "of the self-test".into() },
    })
}

/// `x` and `out` in the arena, `w` in the weights, scales after them.
fn product(dtype: DType, m: usize, n: usize, k: usize) -> Linear {
    // Rows as plans have them, so that the fast kernels are what is checked.
    let x = View { stride: k.next_multiple_of(64), ..View::dense(Region::Arena, dtype, 0, m, k) };
    let w = View::dense(Region::Weights, dtype, 0, n, k);
    let after = |view: View| (view.offset + view.len_bytes().unwrap_or(0)).next_multiple_of(256);
    let x_scale = View::dense(Region::Arena, DType::F32, after(x), 1, m);
    let w_scale = View::dense(Region::Weights, DType::F32, after(w), 1, n);
    let int8 = dtype == DType::I8;
    Linear {
        x,
        x_scale: int8.then_some(x_scale),
        centre: None,
        w: Weight { data: w, scale: int8.then_some(w_scale), rest: None },
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
    for element in bytes[view.offset..][..view.len_bytes().unwrap_or(0)].chunks_exact_mut(size) {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let small = (*seed >> 24) as u8;
        match dtype {
            DType::I8 => element[0] = small,
            // ±1 to ±1.97 in steps of 1/32: the sign, an exponent of 0, five bits of fraction.
            DType::BF16 => element
                .copy_from_slice(&(u16::from(small & 0x80) << 8 | 127 << 7 | u16::from(small & 31) << 2).to_le_bytes()),
            DType::F16 => element
                .copy_from_slice(&(u16::from(small & 0x80) << 8 | 15 << 10 | u16::from(small & 31) << 5).to_le_bytes()),
            _ => element.copy_from_slice(
                &(u32::from(small & 0x80) << 24 | 127 << 23 | u32::from(small & 31) << 18).to_le_bytes(),
            ),
        }
    }
}
