//! What cases of several kernels share.

use denoir_core::ops::SharedMean;
use denoir_core::{DType, View};

use super::super::case::Tolerance;

/// The types of activations that a linear layer takes.
pub(super) const ACTIVATIONS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];
/// The types of tables of embeddings.
pub(super) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A producer's outputs for a shared mean.
pub(super) fn shared_mean_outputs(
    shared_mean: &SharedMean,
    value: Tolerance,
    row: Tolerance,
) -> [(View, Tolerance); 3] {
    [(shared_mean.row, row), (shared_mean.scale, value.of_scale()), (shared_mean.value, value)]
}
