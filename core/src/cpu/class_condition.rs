use half::{bf16, f16};

use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::{Element, Simd};
use super::tiles::Tiles;
use crate::ops::ClassCondition;
use crate::{DType, View};

pub(super) struct Kernel<'a> {
    t_emb: Source<'a, f32>,
    table: FloatRows<'a>,
    labels: Source<'a, u32>,
    out: Target<'a, f32>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &ClassCondition, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            t_emb: memory.source(&op.t_emb),
            table: FloatRows::new(memory, &op.table),
            labels: memory.source(&op.labels),
            out: memory.target(&op.out),
        }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        // SAFETY: a tile is a row.
        let out = unsafe { self.out.row(r) };
        let (t, label) = (r / self.labels.cols, self.labels.row(0)[r % self.labels.cols] as usize);
        let t_emb = self.t_emb.row(t).chunks(S::LANES);
        for (i, (out, t_emb)) in out.chunks_mut(S::LANES).zip(t_emb).enumerate() {
            let sum = s.add(s.load_some(t_emb), self.table.load_some(s, label, i * S::LANES));
            s.store_some(out, s.silu(sum));
        }
    }
}

/// Rows of a float weight matrix, widened as they are read.
#[derive(Clone, Copy)]
pub(super) enum FloatRows<'a> {
    F32(Source<'a, f32>),
    F16(Source<'a, f16>),
    BF16(Source<'a, bf16>),
}

impl<'a> FloatRows<'a> {
    /// # Safety
    /// As [`Arena::source`]; the view is of a float type.
    pub(super) unsafe fn new(memory: &Arena<'a>, view: &View) -> FloatRows<'a> {
        // SAFETY: the caller checked the descriptor, and runs no other kernel.
        unsafe {
            match view.dtype {
                DType::F16 => FloatRows::F16(memory.source(view)),
                DType::BF16 => FloatRows::BF16(memory.source(view)),
                DType::F32 | DType::I8 | DType::U32 => FloatRows::F32(memory.source(view)),
            }
        }
    }

    /// A vector of row `r` from column `start` on; lanes past the row's end are 0.
    #[inline(always)]
    pub(super) fn load_some<S: Simd>(&self, s: S, r: usize, start: usize) -> S::F32 {
        match self {
            FloatRows::F32(m) => f32::load_some(s, &m.row(r)[start..]),
            FloatRows::F16(m) => f16::load_some(s, &m.row(r)[start..]),
            FloatRows::BF16(m) => bf16::load_some(s, &m.row(r)[start..]),
        }
    }
}
