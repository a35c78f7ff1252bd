use super::matrix::{ModulationSource, Source};
use super::memory::Arena;
use super::rounded::{RowSource, Values};
use super::shared_mean::RoundedRows;
use super::simd::Simd;
use crate::TokenLayout;
use crate::ops::NormModulate;

/// Rows, normed and modulated.
pub(super) struct Normed<'a> {
    x: Source<'a, f32>,
    weight: Source<'a, f32>,
    eps: f32,
    modulation: ModulationSource<'a>,
    shift: usize,
    scale: usize,
    layout: TokenLayout,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &NormModulate, memory: &Arena<'a>) -> (usize, RoundedRows<'a, Normed<'a>>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    unsafe {
        let rows = Normed {
            x: memory.source(&op.x),
            weight: memory.source(&op.weight),
            eps: op.eps,
            modulation: memory.modulation(&op.modulation),
            shift: op.shift,
            scale: op.scale,
            layout: op.layout,
        };
        RoundedRows::new(rows, memory, &op.out, op.out_scale.as_ref(), op.shared_mean.as_ref())
    }
}

impl RowSource for Normed<'_> {
    type Values<'r, S: Simd>
        = Modulated<'r, S>
    where
        Self: 'r;

    #[inline(always)]
    fn values<S: Simd>(&self, s: S, r: usize) -> Modulated<'_, S> {
        let (x, weight) = (self.x.row(r), self.weight.row(0));
        let image = self.layout.image_of(r);
        let shift = self.modulation.vector(image, self.shift, x.len());
        let scale = self.modulation.vector(image, self.scale, x.len());
        let mean = s.sum_of_squares(x) / x.len() as f32;
        Modulated { x, inverse: s.inverse_root(mean + self.eps), weight, scale, shift }
    }
}

/// A row, normed and modulated.
pub(super) struct Modulated<'r, S: Simd> {
    x: &'r [f32],
    inverse: S::F32,
    weight: &'r [f32],
    scale: &'r [f32],
    shift: &'r [f32],
}

impl<S: Simd> Values<S> for Modulated<'_, S> {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        let normed = s.mul(s.mul(s.load_some(&self.x[c..]), self.inverse), s.load_some(&self.weight[c..]));
        s.mul_add(normed, s.add(s.splat(1.0), s.load_some(&self.scale[c..])), s.load_some(&self.shift[c..]))
    }
}
