//! Each tier runs small kernels that are compared with the reference: drivers are not always right.

use std::sync::Arc;
use std::time::Instant;

use denoir_core::backend::{Backend, Program};
use denoir_core::ops::{Bounds, Op, OpError};
use denoir_core::self_test::{Case, PRODUCT};
use denoir_core::{DType, Region, View};

use crate::engine::Gpu;
use crate::tier::Tiers;
use crate::{Error, Tier};

/// Rows, columns and depth of the product that is timed: one that every device runs with the same kernel.
const TIMED: [usize; 3] = [512, 512, 256];

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
    let product = |dtype| Case::product(dtype, PRODUCT, PRODUCT[2]);
    match tier {
        Tier::Floor => vec![
            product(DType::F32),
            product(DType::I8),
            Case::attention(64, DType::F32),
            Case::attention(72, DType::F32),
        ],
        Tier::Fp16 => vec![product(DType::F16)],
        Tier::Int8 => vec![product(DType::I8)],
        Tier::Matrix => vec![
            product(DType::F16),
            product(DType::BF16),
            product(DType::I8),
            // Short heads: software takes long to compile others.
            Case::attention(32, DType::F32),
            Case::attention(32, DType::BF16),
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
    Ok(case.agrees(&weights, &mut arena, &got))
}

/// Floating-point operations a second of an f32 product.
fn speed(gpu: &Gpu) -> Result<f64, Error> {
    let [m, n, k] = TIMED;
    let case = Case::product(DType::F32, TIMED, k);
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

/// Both regions of a case, filled.
fn memory(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let Bounds { weights, arena } = case.bounds();
    let (mut weights, mut arena) = (vec![0; weights], vec![0; arena]);
    case.fill(&mut weights, &mut arena);
    (weights, arena)
}
