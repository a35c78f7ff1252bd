use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::{PixelOrder, Unpatchify};

pub(super) struct Kernel<'a> {
    x: Source<'a, f32>,
    grid: usize,
    patch: usize,
    order: PixelOrder,
    out: Target<'a, f32>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Unpatchify, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel { x: memory.source(&op.x), grid: op.grid, patch: op.patch, order: op.order, out: memory.target(&op.out) }
    };
    (op.x.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, _: S, r: usize) {
        let (grid, patch, side) = (self.grid, self.patch, self.grid * self.patch);
        let x = self.x.row(r);
        let channels = x.len() / (patch * patch);
        let (image, token) = (r / (grid * grid), r % (grid * grid));
        let (top, left) = (token / grid * patch, token % grid * patch);
        for line in 0..channels * patch {
            let (channel, row) = (line / patch, line % patch);
            // SAFETY: a tile is one patch of the image.
            let to = unsafe { self.out.part(image, (channel * side + top + row) * side + left, patch) };
            match self.order {
                PixelOrder::ChannelFirst => to.copy_from_slice(&x[line * patch..][..patch]),
                PixelOrder::ChannelLast => {
                    let from = x[row * patch * channels..].iter().skip(channel).step_by(channels);
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
                }
            }
        }
    }
}
