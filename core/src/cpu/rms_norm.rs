use super::Tiles;
use super::memory::{Arena, Source};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use crate::ops::RmsNorm;

pub(super) struct Kernel<'a> {
    x: Source<'a, f32>,
    weight: Source<'a, f32>,
    eps: f32,
    position: Option<Source<'a, f32>>,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &RmsNorm, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe {
        Kernel {
            x: memory.source(&op.x),
            weight: memory.source(&op.weight),
            eps: op.eps,
            position: op.position.as_ref().map(|position| memory.source(position)),
            out: Rounded::new(memory, &op.out, op.out_scale.as_ref()),
        }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let (x, weight) = (self.x.row(r), self.weight.row(0));
        let position = self.position.as_ref().map(|p| p.row(r % p.rows));
        let mean = s.sum_of_squares(x) / x.len() as f32;
        let inverse = s.splat(1.0 / libm::sqrtf(mean + self.eps));
        let value = |c: usize| {
            let normed = s.mul(s.load_some(&x[c..]), inverse);
            let position = position.map_or(s.splat(0.0), |p| s.load_some(&p[c..]));
            s.mul_add(normed, s.load_some(&weight[c..]), position)
        };
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, x.len(), value) };
    }
}
