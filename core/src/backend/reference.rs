use core::convert::Infallible;

use super::contract::{Backend, Program};
use crate::DType;
use crate::ops::{Bounds, Memory, Op};
use crate::tensor::Precision;

/// The judge: every form of every kernel, in f64.
// SAFETY: the bounds are the lengths of its slices.
unsafe impl Backend for Memory<'_> {
    type Error = Infallible;

    fn precision(&self) -> Precision {
        Precision {
            f16: DType::F16,
            bf16: DType::BF16,
            centred: true,
            fused_swiglu: true,
            rounded_qkv: true,
            rounded_rows: true,
            streamed: false,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.len(), arena: self.arena.len() }
    }

    fn begin(&mut self, _program: Program) -> Result<bool, Infallible> {
        Ok(true)
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Infallible> {
        op.reference(self);
        Ok(())
    }

    fn submit(&mut self, _program: Program) -> Result<(), Infallible> {
        Ok(())
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.arena[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.arena[at..at + bytes.len()]);
        Ok(())
    }
}
