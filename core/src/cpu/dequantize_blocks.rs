use half::f16;

use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::built;
use crate::ops::{BLOCK, BLOCK_BYTES, DequantizeBlocks};

pub(super) struct Kernel<'a> {
    x: Source<'a, i8>,
    out: Target<'a, f32>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &DequantizeBlocks, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe { Kernel { x: memory.source(&op.x), out: memory.target(&op.out) } };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    const IS_BUILT: bool = built::TEXT;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, _: S, r: usize) {
        // SAFETY: a tile is a row.
        let out = unsafe { self.out.row(r) };
        let blocks = self.x.row(r).as_chunks::<BLOCK_BYTES>().0;
        for (block, out) in blocks.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
            let [low, high, values @ ..] = block;
            let scale = f16::from_le_bytes([*low as u8, *high as u8]).to_f32_const();
            out.iter_mut().zip(values).for_each(|(out, &q)| *out = scale * f32::from(q));
        }
    }
}
