use super::matrix::Target;
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::{HISTORY, SolverStep, StepValues};

/// Pixels of a tile.
const PIXELS: usize = 4096;

pub(super) struct Kernel<'a> {
    x: Target<'a, f32>,
    x_eval: Target<'a, f32>,
    x_hat: Target<'a, f32>,
    velocity: Target<'a, f32>,
    step: StepValues,
    guided: bool,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &SolverStep, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            x: memory.target(&op.x),
            x_eval: memory.target(&op.x_eval),
            x_hat: memory.target(&op.x_hat),
            velocity: memory.target(&op.velocity),
            step: bytemuck::pod_read_unaligned(bytemuck::cast_slice::<u32, u8>(memory.source(&op.step).row(0))),
            guided: op.guided(),
        }
    };
    (op.x.rows * op.x.cols.div_ceil(PIXELS), kernel)
}

impl<'a> Tiles for Kernel<'a> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let (images, per_image) = (self.x.rows, self.x.cols.div_ceil(PIXELS));
        let (image, first) = (index / per_image, index % per_image * PIXELS);
        let slot = self.step.slot as usize % HISTORY;
        let end = (first + PIXELS).min(self.x.cols);
        for start in (first..end).step_by(S::LANES) {
            let len = S::LANES.min(end - start);
            // SAFETY: a tile is a range of pixels of one image.
            let part = |of: &Target<'a, f32>, row| -> &'a mut [f32] { unsafe { of.part(row, start, len) } };
            let (x, x_eval, x_hat) = (part(&self.x, image), part(&self.x_eval, image), part(&self.x_hat, image));
            let seen = s.load_some(x_eval);
            let remaining = s.splat(self.step.remaining);
            let mut v = s.div(s.sub(s.load_some(x_hat), seen), remaining);
            if self.guided {
                let null = s.div(s.sub(s.load_some(part(&self.x_hat, images + image)), seen), remaining);
                v = s.mul_add(s.splat(self.step.guidance), s.sub(v, null), null);
            }
            s.store_some(part(&self.velocity, slot * images + image), v);
            let add = |mut sum: S::F32, weights: &[f32; HISTORY]| {
                for (j, &weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
                    let past = s.load_some(part(&self.velocity, j * images + image));
                    sum = s.mul_add(s.splat(weight), past, sum);
                }
                sum
            };
            let next = add(s.load_some(x), &self.step.advance);
            s.store_some(x, next);
            s.store_some(x_eval, add(next, &self.step.look_ahead));
            s.store_some(x_hat, s.mul_add(remaining, v, seen));
        }
    }
}
