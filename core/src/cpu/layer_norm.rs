use super::Tiles;
use super::memory::{Arena, Source};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use crate::ops::LayerNorm;

pub(super) struct Kernel<'a> {
    x: Source<'a, f32>,
    eps: f32,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &LayerNorm, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe {
        Kernel { x: memory.source(&op.x), eps: op.eps, out: Rounded::new(memory, &op.out, op.out_scale.as_ref()) }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let x = self.x.row(r);
        let mean = sum(s, x, |v, _| v) / x.len() as f32;
        let centre = s.splat(mean);
        // Lanes past the row's end are no part of it.
        let squares = sum(s, x, |v, len| {
            let d = masked(s, s.sub(v, centre), len);
            s.mul(d, d)
        });
        let inverse = s.splat(1.0 / libm::sqrtf(squares / x.len() as f32 + self.eps));
        let value = |c: usize| {
            let normed = s.mul(s.sub(s.load_some(&x[c..]), centre), inverse);
            masked(s, normed, x.len() - c)
        };
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, x.len(), value) };
    }
}

/// The sum of `f` of every vector and its length.
#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32], f: impl Fn(S::F32, usize) -> S::F32) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for (i, part) in x.chunks(S::LANES).enumerate() {
        sums[i % 4] = s.add(sums[i % 4], f(s.load_some(part), part.len()));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Lanes from `len` on set to 0.
#[inline(always)]
fn masked<S: Simd>(s: S, x: S::F32, len: usize) -> S::F32 {
    if len >= S::LANES { x } else { s.load_some(&s.lanes(x)[..len]) }
}
