//! Linear layers: on panels of weights, whether they are packed or not, but on rows as they lie in the file where a program
//! reads each weight once.

mod centre;
mod finish;
mod panels;
mod rows;
mod slices;
#[cfg(test)]
mod tests;

use half::{bf16, f16};

use super::Tiles;
use super::memory::{Arena, Source};
use super::simd::Simd;
use crate::ops::{Epilogue, Linear};
use crate::{DType, View, Weight};
use centre::Centres;
use finish::Finish;
use slices::{Loose, Weights};

pub(super) struct Kernel<'a>(Way<'a>);

#[expect(clippy::large_enum_variant, reason = "made once for a layer, where nothing allocates")]
enum Way<'a> {
    Panels(panels::Panels<'a>),
    Rows(rows::Rows<'a>),
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Linear, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    unsafe {
        let finish = Finish::new(op, memory);
        let value = Matrix::new(op, &op.w, None, memory);
        let gate = match &op.epilogue {
            Epilogue::Swiglu { gate, bias } => Some((gate, Matrix::new(op, gate, bias.as_ref(), memory))),
            _ => None,
        };
        if memory.streams() && op.centre.is_none() && gate.is_none() {
            let (count, kernel) = rows::tiles(op, value.operands, finish);
            return (count, Kernel(Way::Rows(kernel)));
        }
        let (value, gate) = match (memory.packed(&op.w), gate) {
            (Some(packed), None) => ((value, Weights::Packed(packed)), None),
            (packed, Some((w, gate))) => match (packed, memory.packed(w)) {
                (Some(packed), Some(packed_gate)) => {
                    ((value, Weights::Packed(packed)), Some((gate, Weights::Packed(packed_gate))))
                }
                _ => ((value, loose(&op.w, memory)), Some((gate, loose(w, memory)))),
            },
            (None, None) => ((value, loose(&op.w, memory)), None),
        };
        let (count, kernel) = panels::tiles(op, memory, value, gate, finish);
        (count, Kernel(Way::Panels(kernel)))
    }
}

/// # Safety
/// The weight was checked.
unsafe fn loose<'a>(weight: &Weight, memory: &Arena<'a>) -> Weights<'a> {
    // SAFETY: passed on.
    Weights::Loose(unsafe { Loose::new(weight, memory) })
}

impl Tiles for Kernel<'_> {
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        // SAFETY: passed on.
        unsafe {
            match &self.0 {
                Way::Panels(kernel) => kernel.tile(s, index),
                Way::Rows(kernel) => kernel.tile(s, index),
            }
        }
    }
}

/// A matrix of a layer, with what it multiplies and what goes with it.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    operands: Operands<'a>,
    centres: Option<Centres<'a>>,
    /// A gate's own; the other one is added at the end.
    bias: Option<Source<'a, f32>>,
}

impl<'a> Matrix<'a> {
    /// # Safety
    /// The descriptor was checked.
    unsafe fn new(op: &Linear, w: &Weight, bias: Option<&View>, memory: &Arena<'a>) -> Matrix<'a> {
        // SAFETY: passed on.
        unsafe {
            Matrix {
                operands: Operands::new(op, w, memory),
                centres: op.centre.as_ref().map(|centre| Centres::new(centre, memory)),
                bias: bias.map(|bias| memory.source(bias)),
            }
        }
    }
}

/// Both factors, and with them the kind of product.
#[derive(Clone, Copy)]
enum Operands<'a> {
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
    const fn sizes(&self) -> (usize, usize) {
        match self {
            Operands::F32(..) => (4, 4),
            Operands::WideF16(..) | Operands::WideBF16(..) => (4, 2),
            Operands::F16(..) | Operands::BF16(..) => (2, 2),
            Operands::I8 { .. } => (1, 1),
        }
    }

    /// # Safety
    /// The descriptor was checked.
    unsafe fn new(op: &Linear, w: &Weight, memory: &Arena<'a>) -> Operands<'a> {
        // SAFETY: passed on; element types are as the descriptor's check found them.
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
