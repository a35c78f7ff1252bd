use super::class_condition::FloatRows;
use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::ContextTokens;

pub(super) struct Kernel<'a> {
    table: FloatRows<'a>,
    position: Source<'a, f32>,
    labels: Source<'a, u32>,
    out: Target<'a, f32>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &ContextTokens, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            table: FloatRows::new(memory, &op.table),
            position: memory.source(&op.position),
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
        let label = self.labels.row(0)[r / self.position.rows] as usize;
        let position = self.position.row(r % self.position.rows).chunks(S::LANES);
        for (i, (out, position)) in out.chunks_mut(S::LANES).zip(position).enumerate() {
            s.store_some(out, s.add(s.load_some(position), self.table.load_some(s, label, i * S::LANES)));
        }
    }
}
