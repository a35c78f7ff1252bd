//! How long a product takes on a backend: by that `auto` chooses where the kind of a device does not tell.

use std::time::{Duration, Instant};

use denoir_core::backend::Backend;
use denoir_core::ops::Bounds;
use denoir_core::self_test::Case;
use denoir_core::{DType, Precision};

use crate::AlignedBytes;

/// Rows, columns and depth of the product: a layer of a network, for two images.
const PRODUCT: [usize; 3] = [512, 1024, 1024];
/// How often it runs after a first time.
const RUNS: usize = 3;

/// The product with its operands.
pub(super) struct Race {
    case: Case,
    pub(super) weights: AlignedBytes,
    pub(super) arena: AlignedBytes,
}

impl Race {
    /// Activations as a backend prefers them for weights of this type. `None` if memory is short.
    pub(super) fn new(weights: DType, precision: &Precision) -> Option<Race> {
        let dtype = match weights {
            DType::F16 => precision.f16,
            DType::BF16 => precision.bf16,
            other => other,
        };
        let case = Case::product(dtype, PRODUCT, PRODUCT[2]);
        let Bounds { weights, arena } = case.bounds();
        let (mut weights, mut arena) = (AlignedBytes::zeroed(weights).ok()?, AlignedBytes::zeroed(arena).ok()?);
        case.fill(weights.as_mut_slice(), arena.as_mut_slice());
        Some(Race { case, weights, arena })
    }

    /// The shortest of a few runs on a backend over these weights and an arena of this size. `None` if it fails.
    pub(super) fn time<B: Backend>(&self, backend: &mut B) -> Option<Duration> {
        let (arena, mut sample) = (self.arena.as_slice(), [0; 4]);
        self.case.run(backend, arena, &mut sample).ok()?;
        let once = |_| {
            let start = Instant::now();
            // Operands stay where they are.
            self.case.run(backend, &arena[..4], &mut sample).ok()?;
            Some(start.elapsed())
        };
        (0..RUNS).map(once).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}
