//! Linear layers: on packed panels of weights where there are any, else on the weights as they lie in the file.

mod centre;
mod finish;
mod panels;
mod rows;
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

pub(super) struct Kernel<'a>(Way<'a>);

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
            Epilogue::Swiglu { gate, bias } => {
                Some((Matrix::new(op, gate, bias.as_ref(), memory), memory.packed(gate)))
            }
            _ => None,
        };
        match (memory.packed(&op.w), gate) {
            (Some(packed), None) => {
                let (count, kernel) = panels::tiles(op, memory, (value, packed), None, finish);
                (count, Kernel(Way::Panels(kernel)))
            }
            (Some(packed), Some((gate, Some(packed_gate)))) => {
                let (count, kernel) = panels::tiles(op, memory, (value, packed), Some((gate, packed_gate)), finish);
                (count, Kernel(Way::Panels(kernel)))
            }
            (_, gate) => {
                let (count, kernel) = rows::tiles(op, value, gate.map(|(gate, _)| gate), finish);
                (count, Kernel(Way::Rows(kernel)))
            }
        }
    }
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
                centres: op.centre.as_ref().map(|centre| Centres::new(centre, w.rest().as_ref(), memory)),
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
