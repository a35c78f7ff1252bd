//! What a linear layer multiplies.

use half::{bf16, f16};

use super::super::matrix::Source;
use super::super::memory::Arena;
use super::shared_mean::RoundedMeans;
use crate::ops::Linear;
use crate::{DType, View, Weight};

/// A matrix of a layer, with what it multiplies and what goes with it.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) operands: Operands<'a>,
    pub(super) shared_means: Option<RoundedMeans<'a>>,
    /// A gate's own; the other one is added at the end.
    pub(super) bias: Option<Source<'a, f32>>,
}

impl<'a> Matrix<'a> {
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(op: &Linear, w: &Weight, bias: Option<&View>, memory: &Arena<'a>) -> Matrix<'a> {
        // SAFETY: the caller checked the descriptor.
        unsafe {
            Matrix {
                operands: Operands::new(op, w, memory),
                shared_means: op.shared_mean.as_ref().map(|shared_mean| RoundedMeans::new(shared_mean, memory)),
                bias: bias.map(|bias| memory.source(bias)),
            }
        }
    }
}

/// Both factors, and with them the kind of product.
#[derive(Clone, Copy)]
pub(super) enum Operands<'a> {
    F32(Source<'a, f32>, Source<'a, f32>),
    WideF16(Source<'a, f32>, Source<'a, f16>),
    WideBF16(Source<'a, f32>, Source<'a, bf16>),
    F16(Source<'a, f16>, Source<'a, f16>),
    BF16(Source<'a, bf16>, Source<'a, bf16>),
    I8 { x: Source<'a, i8>, w: Source<'a, i8>, x_scale: Source<'a, f32>, w_scale: Source<'a, f32> },
}

impl<'a> Operands<'a> {
    /// Bytes of an activation and of a weight.
    #[inline(always)]
    pub(super) const fn sizes(&self) -> (usize, usize) {
        match self {
            Operands::F32(..) => (4, 4),
            Operands::WideF16(..) | Operands::WideBF16(..) => (4, 2),
            Operands::F16(..) | Operands::BF16(..) => (2, 2),
            Operands::I8 { .. } => (1, 1),
        }
    }

    /// Whether blocks have [`Simd::DENSE_ROWS`](super::super::simd::Simd::DENSE_ROWS) rows.
    #[inline(always)]
    pub(super) const fn is_dense(&self) -> bool {
        matches!(self, Operands::BF16(..) | Operands::I8 { .. })
    }

    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(op: &Linear, w: &Weight, memory: &Arena<'a>) -> Operands<'a> {
        // SAFETY: the caller checked the descriptor.
        unsafe {
            match (op.x.dtype, w.data.dtype, op.x_scale, w.scale) {
                (DType::I8, _, Some(x_scale), Some(w_scale)) => Operands::I8 {
                    x: memory.source(&op.x),
                    w: memory.source(&w.data),
                    x_scale: memory.source(&x_scale),
                    w_scale: memory.source(&w_scale),
                },
                (DType::F32, DType::F16, ..) => Operands::WideF16(memory.source(&op.x), memory.source(&w.data)),
                (DType::F32, DType::BF16, ..) => Operands::WideBF16(memory.source(&op.x), memory.source(&w.data)),
                (DType::F16, ..) => Operands::F16(memory.source(&op.x), memory.source(&w.data)),
                (DType::BF16, ..) => Operands::BF16(memory.source(&op.x), memory.source(&w.data)),
                _ => Operands::F32(memory.source(&op.x), memory.source(&w.data)),
            }
        }
    }
}
