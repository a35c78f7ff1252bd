use super::matrix::Source;
use super::memory::Arena;
use super::rounded::{Rounded, Values};
use super::simd::Simd;
use super::tiles::Tiles;
use crate::built;
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
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
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
    const IS_BUILT: bool = built::TEXT;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let (x, weight) = (self.x.row(r), self.weight.row(0));
        let position = self.position.as_ref().map(|p| p.row(r % p.rows));
        let mean = s.sum_of_squares(x) / x.len() as f32;
        let inverse = s.inverse_root(mean + self.eps);
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, x.len(), Normed::<S> { x, inverse, weight, position }) };
    }
}

/// A row, normed, with its position added.
struct Normed<'r, S: Simd> {
    x: &'r [f32],
    inverse: S::F32,
    weight: &'r [f32],
    position: Option<&'r [f32]>,
}

impl<S: Simd> Values<S> for Normed<'_, S> {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        let normed = s.mul(s.load_some(&self.x[c..]), self.inverse);
        let position = match self.position {
            Some(position) => s.load_some(&position[c..]),
            None => s.splat(0.0),
        };
        s.mul_add(normed, s.load_some(&self.weight[c..]), position)
    }
}
