use super::matrix::{Source, Target};
use super::memory::Arena;
use super::rounded::RowSource;
use super::shared_mean::RoundedRows;
use super::simd::Simd;
use super::swiglu::rotate;
use crate::ops::QuantizeRows;

/// Rows as they are, or rotated where they are.
pub(super) enum Plain<'a> {
    Kept(Source<'a, f32>),
    Rotated(Target<'a, f32>),
}

impl RowSource for Plain<'_> {
    type Values<'r, S: Simd>
        = &'r [f32]
    where
        Self: 'r;

    #[inline(always)]
    fn values<S: Simd>(&self, s: S, r: usize) -> &[f32] {
        match self {
            Plain::Kept(x) => x.row(r),
            Plain::Rotated(x) => {
                // SAFETY: a tile is a row, which nobody else asks for: rotated rows have no shared mean.
                let row = unsafe { x.row(r) };
                rotate(s, row);
                row
            }
        }
    }
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &QuantizeRows, memory: &Arena<'a>) -> (usize, RoundedRows<'a, Plain<'a>>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    unsafe {
        let rows = match op.rotated {
            true => Plain::Rotated(memory.target(&op.x)),
            false => Plain::Kept(memory.source(&op.x)),
        };
        RoundedRows::new(rows, memory, &op.out, Some(&op.out_scale), op.shared_mean.as_ref())
    }
}
