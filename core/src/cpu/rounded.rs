//! Rows of activations on their way into the type of the next linear layer.

use half::{bf16, f16};

use super::matrix::Target;
use super::memory::Arena;
use super::simd::{Element, MAX_LANES, Simd};
use crate::built;
use crate::ops::{max_magnitude, scale_of};
use crate::{DType, View};

/// Rows of activations before they are rounded.
pub(super) trait RowSource: Sync {
    /// One row.
    type Values<'r, S: Simd>: Values<S>
    where
        Self: 'r;

    /// Row `r`.
    fn values<S: Simd>(&self, s: S, r: usize) -> Self::Values<'_, S>;
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
        // SAFETY: the caller checked the descriptor, and runs no other kernel.
        unsafe {
            match (view.dtype, scale) {
                (DType::I8, Some(scale)) => Rounded::I8(memory.target(view), memory.target(scale)),
                (DType::F16, _) => Rounded::F16(memory.target(view)),
                (DType::BF16, _) => Rounded::BF16(memory.target(view)),
                _ => Rounded::F32(memory.target(view)),
            }
        }
    }

    /// Writes row `r`, `len` elements. Each vector of `values` is asked for once, and once more where the row is
    /// quantised. Lanes past the end do not count.
    ///
    /// # Safety
    /// No other tile touches the row.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) unsafe fn store_row<S: Simd>(&self, s: S, r: usize, len: usize, values: impl Values<S>) {
        let (out, scales) = match self {
            Rounded::I8(out, scales) if built::INT8 => (out, scales),
            _ => {
                for start in (0..len).step_by(S::LANES) {
                    // SAFETY: the caller promises that no other tile touches the row.
                    unsafe { self.store_vector(s, r, start, S::LANES.min(len - start), values.at(s, start)) };
                }
                return;
            }
        };
        let mut max = s.splat(0.0);
        for start in (0..len).step_by(S::LANES) {
            max = s.max_magnitude(max, values.at(s, start));
        }
        let max = s.lanes(max).into_iter().fold(0.0, max_magnitude);
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        // SAFETY: the caller promises that no other tile touches the row.
        let (out, scale) = unsafe { (out.row(r), scales.part(0, r, 1)) };
        scale[0] = scale_of(max);
        for (i, out) in out.chunks_mut(S::LANES).enumerate() {
            let x = s.mul(values.at(s, i * S::LANES), s.splat(inverse));
            if out.len() == S::LANES {
                // SAFETY: LANES elements.
                unsafe { s.store_i8(out.as_mut_ptr(), x) };
            } else {
                let mut lanes = [0; MAX_LANES];
                // SAFETY: at least LANES elements.
                unsafe { s.store_i8(lanes.as_mut_ptr(), x) };
                out.copy_from_slice(&lanes[..out.len()]);
            }
        }
    }

    /// Writes elements from column `start` of row `r` on, in a float type.
    ///
    /// # Safety
    /// No other tile touches them.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) unsafe fn store_part<S: Simd>(&self, s: S, r: usize, start: usize, from: &[f32]) {
        for (i, part) in from.chunks(S::LANES).enumerate() {
            // SAFETY: the caller promises that no other tile touches the row.
            unsafe { self.store_vector(s, r, start + i * S::LANES, part.len(), s.load_some(part)) };
        }
    }

    /// Writes the first `len` lanes, in a float type.
    ///
    /// # Safety
    /// As [`Rounded::store_part`].
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) unsafe fn store_vector<S: Simd>(&self, s: S, r: usize, start: usize, len: usize, x: S::F32) {
        // SAFETY: the caller promises that no other tile touches the row; arrays hold at least LANES elements.
        unsafe {
            match self {
                Rounded::F32(out) => s.store_some(out.part(r, start, len), x),
                Rounded::F16(out) if f16::ACTIVATIONS && len == S::LANES => {
                    s.store_f16(out.part(r, start, len).as_mut_ptr(), x)
                }
                Rounded::BF16(out) if bf16::ACTIVATIONS && len == S::LANES => {
                    s.store_bf16(out.part(r, start, len).as_mut_ptr(), x)
                }
                Rounded::F16(out) if f16::ACTIVATIONS => {
                    let mut lanes = [f16::ZERO; MAX_LANES];
                    s.store_f16(lanes.as_mut_ptr(), x);
                    out.part(r, start, len).copy_from_slice(&lanes[..len]);
                }
                Rounded::BF16(out) if bf16::ACTIVATIONS => {
                    let mut lanes = [bf16::ZERO; MAX_LANES];
                    s.store_bf16(lanes.as_mut_ptr(), x);
                    out.part(r, start, len).copy_from_slice(&lanes[..len]);
                }
                // int8 is no float type; the others were refused.
                Rounded::F16(_) | Rounded::BF16(_) | Rounded::I8(..) => {}
            }
        }
    }
}

/// A row of values, a vector at a time. A closure would be compiled without the instruction set.
pub(super) trait Values<S: Simd> {
    /// The vector from column `c` on; lanes past the end must be 0.
    fn at(&self, s: S, c: usize) -> S::F32;
}

impl<S: Simd> Values<S> for &[f32] {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        s.load_some(&self[c..])
    }
}
