use super::matrix::Target;
use super::memory::Arena;
use super::rounded::Rounded;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::{ROTATION, Swiglu};

pub(super) struct Kernel<'a> {
    x: Target<'a, f32>,
    out: Rounded<'a>,
    rotated: bool,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Swiglu, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
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
        for (a, b) in a.chunks_mut(S::LANES).zip(b.chunks(S::LANES)) {
            s.store_some(a, s.mul(s.silu(s.load_some(a)), s.load_some(b)));
        }
        if self.rotated {
            rotate(s, a);
        }
        let a = &*a;
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, a.len(), a) };
    }
}

/// [`crate::ops::rotate`]: the channels that are mixed lie a [`ROTATION`]th of the row apart, so each vector holds one
/// of each of its groups.
#[cfg_attr(feature = "simd", inline(always))]
pub(super) fn rotate<S: Simd>(s: S, row: &mut [f32]) {
    let n = row.len() / ROTATION;
    for start in (0..n).step_by(S::LANES) {
        let end = n.min(start + S::LANES);
        let mut group = [s.splat(0.0); ROTATION];
        for (j, x) in group.iter_mut().enumerate() {
            *x = s.load_some(&row[j * n + start..j * n + end]);
        }
        add_and_subtract::<S, 1>(s, &mut group);
        add_and_subtract::<S, 2>(s, &mut group);
        add_and_subtract::<S, 4>(s, &mut group);
        add_and_subtract::<S, 8>(s, &mut group);
        for (j, x) in group.into_iter().enumerate() {
            s.store_some(&mut row[j * n + start..j * n + end], s.mul(x, s.splat(0.25)));
        }
    }
}

/// The sum and the difference of each pair whose numbers differ in one bit, a constant so that all stay in registers.
#[inline(always)]
fn add_and_subtract<S: Simd, const BIT: usize>(s: S, group: &mut [S::F32; ROTATION]) {
    for j in 0..ROTATION {
        if j & BIT == 0 {
            let (x, y) = (group[j], group[j | BIT]);
            (group[j], group[j | BIT]) = (s.add(x, y), s.sub(x, y));
        }
    }
}
