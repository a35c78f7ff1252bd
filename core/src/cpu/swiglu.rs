use super::Tiles;
use super::memory::{Arena, Target};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use crate::ops::Swiglu;

pub(super) struct Kernel<'a> {
    x: Target<'a, f32>,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Swiglu, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel =
        unsafe { Kernel { x: memory.target(&op.x), out: Rounded::new(memory, &op.out, op.out_scale.as_ref()) } };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        // SAFETY: a tile is a row.
        let (a, b) = unsafe { self.x.row(r) }.split_at_mut(self.x.cols / 2);
        for (a, b) in a.chunks_mut(S::LANES).zip(b.chunks(S::LANES)) {
            s.store_some(a, s.mul(s.silu(s.load_some(a)), s.load_some(b)));
        }
        let a = &*a;
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, a.len(), a) };
    }
}
