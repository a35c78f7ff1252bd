//! Compares small kernels of each tier with the reference, because drivers have bugs, and its speed with the tiers below.

use std::sync::Arc;
use std::time::{Duration, Instant};

use denoir_core::DType;
use denoir_core::backend::ModelFile;
use denoir_core::ops::Bounds;
use denoir_core::self_test::{Case, PRODUCT};

use crate::backend::Vulkan;
use crate::tier::{Tiers, Unused};
use crate::{Error, Tier};

/// Rows, columns and depth of the timed product, which every device runs with the same kernel.
const TIMED: [usize; 3] = [512, 512, 256];
/// Columns and depth of the products by which tiers are compared, on fast devices and on slow ones; fewest and most rows,
/// and the seconds that they should take.
const COMPARED: [usize; 2] = [1024, 256];
const FEWEST_ROWS: usize = 64;
const MOST_ROWS: usize = 4096;
const SECONDS: f64 = 0.004;
/// How often each of them runs, and how much slower than the tiers below a tier may seem.
const RUNS: usize = 3;
const SLOWER: f64 = 1.1;

/// How much faster products in f16 must be than in f32: they are less exact.
const FASTER: f64 = 1.1;
/// Exponents of the factors of such products: their size, and where f16 has too few digits or overflows.
const EXPONENTS: [i8; 3] = [0, -9, 9];

/// Creates a backend with these tiers for a file and an arena of this size in bytes.
type Open<'a> = &'a dyn Fn(Tiers, Arc<dyn ModelFile>, usize) -> Result<Vulkan, Error>;

/// The tiers that cannot be used, and why; those above the floor are optional. An error comes with the tier whose kernels
/// met it.
pub(crate) fn unusable(tiers: Tiers, open: Open<'_>) -> Result<Vec<(Tier, Unused)>, (Tier, Error)> {
    let mut unusable = Vec::new();
    let mut right = tiers;
    for tier in Tier::ALL {
        // Higher tiers would take the kernels away.
        let tested = right.up_to(tier);
        if !tested.has(tier) {
            continue;
        }
        let all = cases(tier).iter().try_fold(true, |all, case| Ok(all && agrees(tested, case, open)?));
        let why = match all {
            Ok(true) => continue,
            Ok(false) => Unused::Wrong,
            Err(e) if tier != Tier::Floor && is_of_compiler(&e) => Unused::NotCompiled,
            Err(e) => return Err((tier, e)),
        };
        unusable.push((tier, why));
        if tier == Tier::Floor {
            break;
        }
        right = right.without(tier);
    }
    Ok(unusable)
}

/// Whether bf16 factors can be multiplied in f16 as these tiers would: the driver compiles it, keeps small numbers, and
/// overflow is noticed.
pub(crate) fn packs(tiers: Tiers, open: Open<'_>) -> Result<bool, Error> {
    let tested = tiers.up_to(Tier::Fp16);
    if !tested.packed {
        return Ok(false);
    }
    let all = EXPONENTS.into_iter().map(|exponent| Case::rounded_product(PRODUCT, exponent));
    match all.into_iter().try_fold(true, |all, case| Ok(all && agrees(tested, &case, open)?)) {
        Err(e) if is_of_compiler(&e) => Ok(false),
        other => other,
    }
}

/// Whether the driver refused a kernel.
fn is_of_compiler(e: &Error) -> bool {
    matches!(e, Error::Call { call: "vkCreateComputePipelines" | "vkCreateShaderModule", .. })
}

/// The tiers without those parts that are slower than what the tiers below do instead.
pub(crate) fn without_slow(tiers: Tiers, flop_per_second: f64, open: Open<'_>) -> Result<Tiers, Error> {
    let rows = |side: usize| (flop_per_second * SECONDS / (2 * side * side) as f64) as usize;
    let side = COMPARED.into_iter().find(|&side| rows(side) >= FEWEST_ROWS).unwrap_or(COMPARED[1]);
    let sizes = [rows(side).clamp(FEWEST_ROWS, MOST_ROWS), side, side];
    let time = |tiers, dtype| duration(tiers, dtype, sizes, open);
    let mut kept = tiers;
    for tier in [Tier::Fp16, Tier::Int8, Tier::Matrix] {
        let with = kept.up_to(tier);
        if !with.has(tier) {
            continue;
        }
        let below = with.without(tier);
        let is_slow = |dtype| {
            // Without 16 bits, layers that have them as weights take f32.
            let instead = if dtype == DType::F16 { below.precision().f16 } else { dtype };
            Ok(time(with, dtype)?.as_secs_f64() > SLOWER * time(below, instead)?.as_secs_f64())
        };
        kept = match tier {
            Tier::Matrix => {
                let matrix = with.matrix.unwrap_or_default();
                kept.with_matrices(
                    matrix.f16.is_some() && !is_slow(DType::F16)?,
                    matrix.int8.is_some() && !is_slow(DType::I8)?,
                )
            }
            Tier::Int8 if is_slow(DType::I8)? => kept.without(tier),
            Tier::Fp16 if is_slow(DType::F16)? => kept.without(tier),
            _ => kept,
        };
    }
    // Matrices take these products away.
    if kept.packed && kept.matrix.is_none_or(|matrix| matrix.f16.is_none()) {
        let with = kept.up_to(Tier::Fp16);
        let wide = time(with, DType::F32)?.as_secs_f64();
        kept.packed = FASTER * time(with, DType::BF16)?.as_secs_f64() <= wide;
    }
    Ok(kept)
}

/// The time of a product, the shortest of a few runs.
fn duration(tiers: Tiers, dtype: DType, sizes: [usize; 3], open: Open<'_>) -> Result<Duration, Error> {
    let case = Case::product(dtype, sizes, sizes[2]);
    let (weights, arena) = memory(&case);
    let mut backend = open(tiers, Arc::new(weights), arena.len())?;
    let mut sample = [0; 4];
    // The first run compiles.
    case.run(&mut backend, &arena, &mut sample)?;
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        case.run(&mut backend, &arena[..4], &mut sample)?;
        shortest = shortest.min(start.elapsed());
    }
    Ok(shortest)
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
