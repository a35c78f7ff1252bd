use super::Tiles;
use super::memory::{Arena, Target};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use crate::ops::{ROTATION, Swiglu};

pub(super) struct Kernel<'a> {
    x: Target<'a, f32>,
    out: Rounded<'a>,
    rotated: bool,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Swiglu, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe {
        let out = Rounded::new(memory, &op.out, op.out_scale.as_ref());
        Kernel { x: memory.target(&op.x), out, rotated: op.rotated }
    };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        // SAFETY: a tile is a row.
        let (a, b) = unsafe { self.x.row(r) }.split_at_mut(self.x.cols / 2);
        let rotated = if self.rotated { a.len() / ROTATION * ROTATION } else { 0 };
        multiply_and_rotate(s, &mut a[..rotated], &b[..rotated]);
        for (a, b) in a[rotated..].chunks_mut(S::LANES).zip(b[rotated..].chunks(S::LANES)) {
            s.store_some(a, s.mul(s.silu(s.load_some(a)), s.load_some(b)));
        }
        let a = &*a;
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, a.len(), a) };
    }
}

/// SiLU(a) · b into `a`, rotated: the channels that are mixed lie a [`ROTATION`]th of the row apart, so each vector
/// holds one of each of its groups.
#[inline(always)]
fn multiply_and_rotate<S: Simd>(s: S, a: &mut [f32], b: &[f32]) {
    let n = a.len() / ROTATION;
    for start in (0..n).step_by(S::LANES) {
        let end = n.min(start + S::LANES);
        let mut group = [s.splat(0.0); ROTATION];
        for (j, x) in group.iter_mut().enumerate() {
            let columns = j * n + start..j * n + end;
            *x = s.mul(s.silu(s.load_some(&a[columns.clone()])), s.load_some(&b[columns]));
        }
        for bit in [1, 2, 4, 8] {
            for j in 0..ROTATION {
                if j & bit == 0 {
                    let (x, y) = (group[j], group[j | bit]);
                    (group[j], group[j | bit]) = (s.add(x, y), s.sub(x, y));
                }
            }
        }
        for (j, x) in group.into_iter().enumerate() {
            s.store_some(&mut a[j * n + start..j * n + end], s.mul(x, s.splat(0.25)));
        }
    }
}
