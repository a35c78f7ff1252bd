//! The activation types with which a device is fastest.

use crate::{DType, Weight};

/// The activation types that a backend prefers at its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Activation type for f16 weights: f32 or f16.
    pub f16: DType,
    /// Activation type for bf16 weights: f32 or bf16.
    pub bf16: DType,
    /// Whether the shared mean of an image's tokens is subtracted from int8 activations
    /// ([`SharedMean`](crate::ops::SharedMean)). Linear layers then read each weight once more, which costs little if
    /// the weights are in a cache.
    pub centred: bool,
    /// Whether one linear layer computes both products of SwiGLU, [`Epilogue::Swiglu`](crate::ops::Epilogue::Swiglu).
    pub fused_swiglu: bool,
    /// Whether attention reads queries, keys and values that were written in bf16, where it may round to that
    /// ([`attention_before`](Precision::attention_before)), rather than f32.
    pub rounded_qkv: bool,
    /// Whether what becomes int8 in a kernel of its own ([`QuantizeRows`](crate::ops::QuantizeRows)), attention's output
    /// and SwiGLU's, is written in bf16 before, rather than f32: half of the bytes, for a hundredth of int8's error.
    pub rounded_rows: bool,
    /// Whether the weights of programs that are not replayed must be copied to the device each time. The modulation
    /// vectors of as many time points as possible are then computed together.
    pub streamed: bool,
}

impl Precision {
    /// Widens weights and keeps activations in f32. int8 weights always use int8 activations.
    pub const WIDE: Precision = Precision {
        f16: DType::F32,
        bf16: DType::F32,
        centred: false,
        fused_swiglu: false,
        rounded_qkv: false,
        rounded_rows: false,
        streamed: false,
    };

    /// Returns whether a backend with these types can run a plan made for `plan`: each choice of the plan must be the
    /// backend's own or the wide one.
    pub fn runs(&self, plan: &Precision) -> bool {
        let is_one_of = |planned, own| planned == own || planned == DType::F32;
        is_one_of(plan.f16, self.f16)
            && is_one_of(plan.bf16, self.bf16)
            && (self.centred || !plan.centred)
            && (self.fused_swiglu || !plan.fused_swiglu)
            && (self.rounded_qkv || !plan.rounded_qkv)
            && (self.rounded_rows || !plan.rounded_rows)
    }

    /// The activation type for this weight in a block.
    pub const fn input_of(&self, weight: &Weight) -> DType {
        match weight.data.dtype {
            DType::F16 => self.f16,
            DType::BF16 => self.bf16,
            other => other,
        }
    }

    /// The type to which attention may round before a layer with this weight: int8 and bf16 layers round more coarsely
    /// themselves.
    pub const fn attention_before(&self, next: &Weight) -> DType {
        match next.data.dtype {
            DType::BF16 | DType::I8 => self.bf16,
            _ => DType::F32,
        }
    }

    /// The type of what becomes int8 in a kernel of its own.
    pub(crate) const fn before_int8(&self) -> DType {
        if self.rounded_rows { DType::BF16 } else { DType::F32 }
    }

    /// Maximum bytes per activation for any of these weights.
    pub(crate) fn widest<'w>(&self, weights: impl Iterator<Item = &'w Weight>) -> usize {
        weights.map(|w| self.input_of(w).size()).max().unwrap_or(4)
    }
}
