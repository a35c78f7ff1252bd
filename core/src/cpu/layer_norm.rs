use super::matrix::Source;
use super::memory::Arena;
use super::rounded::{Rounded, Values};
use super::simd::Simd;
use super::tiles::Tiles;
use crate::built;
use crate::ops::LayerNorm;

pub(super) struct Kernel<'a> {
    x: Source<'a, f32>,
    eps: f32,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &LayerNorm, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel { x: memory.source(&op.x), eps: op.eps, out: Rounded::new(memory, &op.out, op.out_scale.as_ref()) }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    const IS_BUILT: bool = built::TEXT;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let x = self.x.row(r);
        let centre = s.splat(sum(s, x) / x.len() as f32);
        let inverse = s.inverse_root(sum_of_squares(s, x, centre) / x.len() as f32 + self.eps);
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, x.len(), Normed::<S> { x, centre, inverse }) };
    }
}

/// A row, centred and normed.
struct Normed<'r, S: Simd> {
    x: &'r [f32],
    centre: S::F32,
    inverse: S::F32,
}

impl<S: Simd> Values<S> for Normed<'_, S> {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        let normed = s.mul(s.sub(s.load_some(&self.x[c..]), self.centre), self.inverse);
        masked(s, normed, self.x.len() - c)
    }
}

#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for (i, part) in x.chunks(S::LANES).enumerate() {
        sums[i % 4] = s.add(sums[i % 4], s.load_some(part));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// `Σ (x − centre)²`; lanes past the row's end are no part of it.
#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, x: &[f32], centre: S::F32) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for (i, part) in x.chunks(S::LANES).enumerate() {
        let d = masked(s, s.sub(s.load_some(part), centre), part.len());
        sums[i % 4] = s.mul_add(d, d, sums[i % 4]);
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Lanes from `len` on set to 0.
#[inline(always)]
fn masked<S: Simd>(s: S, x: S::F32, len: usize) -> S::F32 {
    if len >= S::LANES { x } else { s.load_some(&s.lanes(x)[..len]) }
}
