use super::class_condition::FloatRows;
use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::DType;
use crate::built;
use crate::ops::GatherRows;

pub(super) struct Kernel<'a> {
    copy: Copied<'a>,
    index: Source<'a, u32>,
    count: usize,
}

enum Copied<'a> {
    Floats(FloatRows<'a>, Target<'a, f32>),
    Bytes(Source<'a, i8>, Target<'a, i8>),
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &GatherRows, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        let copy = match op.x.dtype {
            DType::I8 => Copied::Bytes(memory.source(&op.x), memory.target(&op.out)),
            _ => Copied::Floats(FloatRows::new(memory, &op.x), memory.target(&op.out)),
        };
        Kernel { copy, index: memory.source(&op.index), count: op.count }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    const IS_BUILT: bool = built::TEXT;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let row = self.index.row(0)[r / self.count] as usize * self.count + r % self.count;
        match &self.copy {
            Copied::Floats(x, out) => {
                // SAFETY: a tile is a row.
                for (i, out) in unsafe { out.row(r) }.chunks_mut(S::LANES).enumerate() {
                    s.store_some(out, x.load_some(s, row, i * S::LANES));
                }
            }
            // SAFETY: a tile is a row.
            Copied::Bytes(x, out) => unsafe { out.row(r) }.copy_from_slice(x.row(row)),
        }
    }
}
