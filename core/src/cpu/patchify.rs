use super::matrix::Source;
use super::memory::Arena;
use super::rounded::Rounded;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::Patchify;

pub(super) struct Kernel<'a> {
    image: Source<'a, f32>,
    grid: usize,
    patch: usize,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Patchify, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            image: memory.source(&op.image),
            grid: op.grid,
            patch: op.patch,
            out: Rounded::new(memory, &op.out, None),
        }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let (grid, patch, side) = (self.grid, self.patch, self.grid * self.patch);
        let image = self.image.row(r / (grid * grid) % self.image.rows);
        let (top, left) = (r % (grid * grid) / grid * patch, r % grid * patch);
        for line in 0..image.len() / (side * side) * patch {
            let (channel, row) = (line / patch, line % patch);
            let from = &image[(channel * side + top + row) * side + left..][..patch];
            // SAFETY: a tile is a row of the output.
            unsafe { self.out.store_part(s, r, line * patch, from) };
        }
    }
}
