//! Compares small kernels of each tier with the reference, because drivers have bugs.

use std::sync::Arc;
use std::time::Instant;

use denoir_core::DType;
use denoir_core::backend::ModelFile;
use denoir_core::ops::Bounds;
use denoir_core::self_test::{Case, PRODUCT};

use crate::backend::Vulkan;
use crate::tier::Tiers;
use crate::{Error, Tier};

/// Rows, columns and depth of the timed product, which every device runs with the same kernel.
const TIMED: [usize; 3] = [512, 512, 256];

/// Creates a backend with these tiers for a file and an arena of this size in bytes.
type Open<'a> = &'a dyn Fn(Tiers, Arc<dyn ModelFile>, usize) -> Result<Vulkan, Error>;

/// The tiers that compute wrong results; those above the floor are optional.
pub(crate) fn wrong_tiers(tiers: Tiers, open: Open<'_>) -> Result<Vec<Tier>, Error> {
    let mut wrong = Vec::new();
    let mut right = tiers;
    for tier in Tier::ALL {
        // Higher tiers would take the kernels away.
        let tested = right.up_to(tier);
        if !tested.has(tier) || cases(tier).iter().try_fold(true, |all, case| Ok(all && agrees(tested, case, open)?))? {
            continue;
        }
        wrong.push(tier);
        if tier == Tier::Floor {
            break;
        }
        right = right.without(tier);
    }
    Ok(wrong)
}

/// Every kernel that a tier adds, in every type. CPU devices have one kernel for heads of 64 channels and one for
/// longer heads.
fn cases(tier: Tier) -> Vec<Case> {
    let product = |dtype| Case::product(dtype, PRODUCT, PRODUCT[2]);
    match tier {
        Tier::Floor => vec![
            product(DType::F32),
            product(DType::I8),
            Case::attention(64, DType::F32, DType::F32),
            Case::attention(72, DType::F32, DType::F32),
        ],
        Tier::Fp16 => vec![product(DType::F16)],
        Tier::Int8 => vec![product(DType::I8)],
        Tier::Matrix => vec![
            product(DType::F16),
            product(DType::BF16),
            product(DType::I8),
            // Short heads: software takes long to compile others.
            Case::attention(32, DType::F32, DType::F32),
            Case::attention(32, DType::F32, DType::BF16),
        ],
    }
}

/// Returns whether a kernel agrees with the reference.
fn agrees(tiers: Tiers, case: &Case, open: Open<'_>) -> Result<bool, Error> {
    let (weights, mut arena) = memory(case);
    let mut got = vec![0; case.out_bytes()];
    case.run(&mut open(tiers, Arc::new(weights.clone()), arena.len())?, &arena, &mut got)?;
    Ok(case.agrees(&weights, &mut arena, &got))
}

/// Measures the speed of an f32 product in floating-point operations per second.
pub(crate) fn speed(tiers: Tiers, open: Open<'_>) -> Result<f64, Error> {
    let [m, n, k] = TIMED;
    let case = Case::product(DType::F32, TIMED, k);
    let (weights, arena) = memory(&case);
    let mut backend = open(tiers, Arc::new(weights), arena.len())?;
    let mut sample = [0; 4];
    // The first run compiles.
    case.run(&mut backend, &arena, &mut sample)?;
    let start = Instant::now();
    case.run(&mut backend, &arena[..4], &mut sample)?;
    Ok((2 * m * n * k) as f64 / start.elapsed().as_secs_f64().max(1e-6))
}

/// Fills both regions of a case.
fn memory(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let Bounds { weights, arena } = case.bounds();
    let (mut weights, mut arena) = (vec![0; weights], vec![0; arena]);
    case.fill(&mut weights, &mut arena);
    (weights, arena)
}
