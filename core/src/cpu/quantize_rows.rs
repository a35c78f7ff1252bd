use half::{bf16, f16};

use super::Tiles;
use super::memory::{Arena, Source, Target};
use super::simd::Simd;
use crate::ops::QuantizeRows;
use crate::{DType, View};

pub(super) struct Kernel<'a> {
    x: Source<'a, f32>,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &QuantizeRows, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe { Kernel { x: memory.source(&op.x), out: Rounded::new(memory, &op.out, Some(&op.out_scale)) } };
    (op.out.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let x = self.x.row(r);
        // SAFETY: a tile is a row.
        unsafe { self.out.store_row(s, r, x.len(), |c| s.load_some(&x[c..])) };
    }
}

/// Activations in the type of the next linear layer: f32, rounded to 16 bit, or int8 with a scale per row.
#[derive(Clone, Copy)]
pub(super) enum Rounded<'a> {
    F32(Target<'a, f32>),
    F16(Target<'a, f16>),
    BF16(Target<'a, bf16>),
    I8(Target<'a, i8>, Target<'a, f32>),
}

impl<'a> Rounded<'a> {
    /// # Safety
    /// As [`Arena::target`]; int8 comes with its scales.
    pub(super) unsafe fn new(memory: &Arena<'a>, view: &View, scale: Option<&View>) -> Rounded<'a> {
        // SAFETY: passed on.
        unsafe {
            match (view.dtype, scale) {
                (DType::I8, Some(scale)) => Rounded::I8(memory.target(view), memory.target(scale)),
                (DType::F16, _) => Rounded::F16(memory.target(view)),
                (DType::BF16, _) => Rounded::BF16(memory.target(view)),
                _ => Rounded::F32(memory.target(view)),
            }
        }
    }

    /// Writes row `r`, `len` elements, whose vector from column `c` on is `value(c)`: called once for each vector,
    /// and once more where the row is quantised. Lanes past the end do not count and must be 0.
    ///
    /// # Safety
    /// No other tile touches the row.
    #[inline(always)]
    pub(super) unsafe fn store_row<S: Simd>(&self, s: S, r: usize, len: usize, value: impl Fn(usize) -> S::F32) {
        let Rounded::I8(out, scales) = self else {
            for start in (0..len).step_by(S::LANES) {
                let lanes = s.lanes(value(start));
                // SAFETY: passed on.
                unsafe { self.store_part(s, r, start, &lanes[..S::LANES.min(len - start)]) };
            }
            return;
        };
        let mut max = s.splat(0.0);
        for start in (0..len).step_by(S::LANES) {
            let x = value(start);
            max = s.max(max, s.max(x, s.sub(s.splat(0.0), x)));
        }
        let max = s.lanes(max).into_iter().fold(0.0, f32::max);
        let inverse = Some(127.0 / max).filter(|x| x.is_finite()).unwrap_or(0.0);
        // SAFETY: passed on.
        let (out, scale) = unsafe { (out.row(r), scales.part(0, r, 1)) };
        scale[0] = max / 127.0;
        // Adding 1.5 · 2^23 rounds to the nearest whole number, ties to even, and leaves it in the low bits.
        let magic = s.splat(12_582_912.0);
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let q = s.lanes(s.add(s.mul(value(i * S::LANES), s.splat(inverse)), magic));
            out.iter_mut().zip(q).for_each(|(out, q)| *out = q.to_bits() as i8);
        }
    }

    /// Writes elements from column `start` of row `r` on, in a float type.
    ///
    /// # Safety
    /// No other tile touches them.
    #[inline(always)]
    pub(super) unsafe fn store_part<S: Simd>(&self, _: S, r: usize, start: usize, from: &[f32]) {
        // SAFETY: passed on.
        unsafe {
            match self {
                Rounded::F32(out) => out.part(r, start, from.len()).copy_from_slice(from),
                Rounded::F16(out) => round(out.part(r, start, from.len()), from, f16::from_f32_const),
                Rounded::BF16(out) => round(out.part(r, start, from.len()), from, bf16::from_f32_const),
                Rounded::I8(..) => {}
            }
        }
    }
}

#[inline(always)]
fn round<T>(to: &mut [T], from: &[f32], f: impl Fn(f32) -> T) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = f(from));
}
