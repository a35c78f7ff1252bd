//! The types of activations that a device is fastest with.

use crate::{DType, Weight};

/// The activation types that a backend wants at its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Type of the activations that meet f16 weights: f32 or f16.
    pub f16: DType,
    /// Type of the activations that meet bf16 weights: f32 or bf16.
    pub bf16: DType,
    /// Whether what the tokens of an image have in common is taken out of int8 activations ([`SharedMean`]). Linear layers
    /// then read each weight once more, which costs little where they are in a cache.
    pub centred: bool,
    /// Whether both products of SwiGLU are one linear layer, [`Epilogue::Swiglu`](crate::ops::Epilogue::Swiglu).
    pub fused_swiglu: bool,
}

impl Precision {
    /// Weights are widened, activations stay f32. int8 weights always meet int8 activations.
    pub const WIDE: Precision = Precision { f16: DType::F32, bf16: DType::F32, centred: false, fused_swiglu: false };

    /// Returns whether a backend that wants these types runs what was planned for `plan`: each choice is the backend's
    /// own or the wide one.
    pub fn runs(&self, plan: &Precision) -> bool {
        let is_one_of = |planned, own| planned == own || planned == DType::F32;
        is_one_of(plan.f16, self.f16)
            && is_one_of(plan.bf16, self.bf16)
            && (self.centred || !plan.centred)
            && (self.fused_swiglu || !plan.fused_swiglu)
    }

    /// The type of the activations that meet this weight in a block.
    pub const fn input_of(&self, weight: &Weight) -> DType {
        match weight.data.dtype {
            DType::F16 => self.f16,
            DType::BF16 => self.bf16,
            other => other,
        }
    }

    /// What attention may round to where this weight follows it: int8 and bf16 layers round more coarsely themselves.
    pub const fn attention_before(&self, next: &Weight) -> DType {
        match next.data.dtype {
            DType::BF16 | DType::I8 => self.bf16,
            _ => DType::F32,
        }
    }

    /// Bytes of an activation that meets any of these weights.
    pub(crate) fn widest<'w>(&self, weights: impl Iterator<Item = &'w Weight>) -> usize {
        weights.map(|w| self.input_of(w).size()).max().unwrap_or(4)
    }
}
