//! What was taken out of int8 activations, times the weights: once for an image, added to each of its rows.

use super::super::matrix::Source;
use super::super::memory::Arena;
use super::super::simd::block::{Block, MAX_PANEL, Row, RowArray};
use super::super::simd::{MAX_LANES, Simd};
use super::slices::{Slice, Weights};
use crate::QuantResidual;
use crate::TokenLayout;
use crate::built;
use crate::ops::SharedMean;

/// The shared means of the rows that a layer multiplies, rounded to int8.
#[derive(Clone, Copy)]
pub(super) struct RoundedMeans<'a> {
    pub(super) row: Source<'a, i8>,
    pub(super) scale: Source<'a, f32>,
    pub(super) layout: TokenLayout,
}

/// A panel of int8 weights and the scales of its columns.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) weight: &'a Weights<'a>,
    pub(super) panel: usize,
    pub(super) k: usize,
    pub(super) scale: &'a [f32],
}

/// What the shared means of the images met last add in the columns of a tile. Rows of an image follow each other, but
/// for its context tokens, so that a few are enough to make each once, or twice in large batches.
pub(super) struct Products<S: Simd> {
    images: [usize; SLOTS],
    values: [S::Panel; SLOTS],
}

/// Images whose products are kept.
const SLOTS: usize = if built::SMALL { 2 } else { 8 };

impl<S: Simd> Products<S> {
    /// None yet.
    #[inline(always)]
    pub(super) fn new() -> Products<S> {
        Products { images: [usize::MAX; SLOTS], values: [S::Panel::splat(0.0); SLOTS] }
    }

    /// The place of an image's products, and whether they are there; if not, the caller makes them.
    #[inline(always)]
    pub(super) fn of_image(&mut self, image: usize) -> (&mut [f32], bool) {
        let slot = image % SLOTS;
        let cached = self.images[slot] == image;
        self.images[slot] = image;
        (self.values[slot].columns(), cached)
    }
}

impl<'a> RoundedMeans<'a> {
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(shared_mean: &SharedMean, memory: &Arena<'a>) -> RoundedMeans<'a> {
        // SAFETY: the caller checked the descriptor.
        unsafe {
            RoundedMeans {
                row: memory.source(&shared_mean.row),
                scale: memory.source(&shared_mean.scale),
                layout: shared_mean.layout,
            }
        }
    }

    /// Writes an image's products with a panel's columns.
    ///
    /// # Safety
    /// The panel's weights are int8, in columns of `k`.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) unsafe fn write<S: Simd>(
        &self,
        s: S,
        image: usize,
        Panel { weight, panel, k, scale }: Panel<'_>,
        slice: &mut Slice<S>,
        to: &mut [f32],
    ) {
        let row = self.row.row(image);
        let mut sums = S::Sums::new();
        s.begin_blocks(1);
        let mut done = 0;
        while done < k {
            let (w, count) = weight.from(s, panel, done..k, 1, slice);
            let (x, sums) = (row[done..].as_ptr().cast(), sums.rows().as_mut_ptr().cast());
            let b = &mut Block { x, stride: 0, part: None, rows: 1, k: count, w, sums, add: done > 0, next: &[] };
            // SAFETY: a row of the view, which was checked, and a stretch of the panel.
            unsafe { s.row_i8(b) };
            done += count;
        }
        let excess = weight.excess::<S>(panel, slice);
        let codes = match weight.has_residual() {
            // SAFETY: the words of the panel's residual are as many as the row's.
            true => unsafe { codes(s, row, weight, panel, slice) },
            false => [s.splat(0.0); MAX_VECTORS],
        };
        let total = row.iter().fold(0, |sum: i32, &q| sum.wrapping_add(q.into())) as f32;
        let factor = s.splat(if weight.has_residual() { 0.25 } else { 0.0 });
        let (sums, excess) = (sums.rows()[0].columns(), excess.as_ref());
        for (v, codes) in (0..scale.len()).step_by(S::LANES).zip(codes) {
            // SAFETY: sums and excess are of a panel's width, i32.
            let y = unsafe { s.load_i32(sums[v..][..S::LANES].as_ptr().cast(), excess[v..].as_ptr()) };
            let y = s.mul_add(s.sub(codes, s.splat(1.5 * total)), factor, y);
            let scale = s.load_some(&scale[v..scale.len().min(v + S::LANES)]);
            s.store_some(&mut to[v..][..S::LANES], s.mul(y, s.mul(s.splat(self.scale.row(0)[image]), scale)));
        }
    }
}

/// Vectors of a panel at most.
const MAX_VECTORS: usize = 4;

/// Products of a row with a panel's codes.
///
/// # Safety
/// The panel has a residual of the row's words.
#[cfg_attr(feature = "simd", inline(always))]
unsafe fn codes<S: Simd>(
    s: S,
    row: &[i8],
    weight: &Weights<'_>,
    panel: usize,
    slice: &mut Slice<S>,
) -> [S::F32; MAX_VECTORS] {
    // Two sums for each vector, so that no product waits for the one before it.
    let mut sums = [[s.zero_i32(); 2]; MAX_VECTORS];
    let (words, tail) = row.as_chunks::<{ QuantResidual::WORD }>();
    let mut last = [0; QuantResidual::WORD];
    last[..tail.len()].copy_from_slice(tail);
    let (mut done, end) = (0, row.len().div_ceil(QuantResidual::WORD));
    while done < end {
        let (mut residual, count) = weight.residual_from(s, panel, done..end, slice);
        for i in done..done + count {
            // SAFETY: the residual has a word of each column for each of the row's.
            unsafe {
                add_codes(s, &mut sums, words.get(i).unwrap_or(&last), residual);
                residual = residual.add(size_of::<u32>() * S::PANEL);
            }
        }
        done += count;
    }
    let mut products = [s.splat(0.0); MAX_VECTORS];
    for (product, sums) in products.iter_mut().zip(sums) {
        let mut lanes = [[0; MAX_LANES]; 2];
        // SAFETY: at least LANES elements each.
        *product = unsafe {
            s.store_i32(lanes[0].as_mut_ptr(), sums[0]);
            s.store_i32(lanes[1].as_mut_ptr(), sums[1]);
            let nothing = [0; MAX_LANES];
            s.add(s.load_i32(lanes[0].as_ptr(), nothing.as_ptr()), s.load_i32(lanes[1].as_ptr(), nothing.as_ptr()))
        };
    }
    products
}

/// # Safety
/// `residual` is readable for a word of each column of a panel.
#[cfg_attr(feature = "simd", inline(always))]
unsafe fn add_codes<S: Simd>(
    s: S,
    sums: &mut [[S::I32; 2]; MAX_VECTORS],
    word: &[i8; QuantResidual::WORD],
    residual: *const u8,
) {
    let groups: [u32; 4] = bytemuck::cast(*word);
    let q = [s.splat_bytes(groups[0]), s.splat_bytes(groups[1]), s.splat_bytes(groups[2]), s.splat_bytes(groups[3])];
    for (v, sums) in sums.iter_mut().enumerate().take(S::PANEL / S::LANES) {
        // SAFETY: the caller promises that a word of each column can be read.
        let codes = unsafe { s.codes(residual.add(size_of::<u32>() * S::LANES * v)) };
        for (i, (codes, q)) in codes.into_iter().zip(q).enumerate() {
            // The codes are not negative, so they may be on either side; the shared mean may be on the signed one only.
            sums[i % 2] = s.dot_bytes(sums[i % 2], q, codes);
        }
    }
}

const _: () = assert!(MAX_PANEL / 16 == MAX_VECTORS);
