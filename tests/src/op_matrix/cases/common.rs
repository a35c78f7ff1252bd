//! What cases of several kernels share.

use denoir_core::ops::SharedMean;
use denoir_core::{DType, View};

use super::super::case::Tolerance;

/// The types of activations that a linear layer takes.
pub(super) const ACTIVATIONS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];
/// The types of tables of embeddings.
pub(super) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A producer's outputs for a centre.
pub(super) fn centre_outputs(centre: &SharedMean, value: Tolerance, row: Tolerance) -> [(View, Tolerance); 3] {
    [(centre.row, row), (centre.scale, value.of_scale()), (centre.value, value)]
}
