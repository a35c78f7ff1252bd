//! What was taken out of int8 activations, times the weights: once for an image, added to each of its rows.

use super::super::memory::{Arena, Source};
use super::super::pack::PackedWeight;
use super::super::simd::product::{Block, MAX_PANEL, MAX_ROWS, Sums};
use super::super::simd::{MAX_LANES, Simd};
use crate::Rest;
use crate::ops::Centre;
use crate::{TokenLayout, View};

/// The centres of the rows that a layer multiplies.
#[derive(Clone, Copy)]
pub(super) struct Centres<'a> {
    pub(super) row: Source<'a, i8>,
    pub(super) scale: Source<'a, f32>,
    rest: Option<Source<'a, i8>>,
    pub(super) layout: TokenLayout,
}

/// A panel of int8 weights and the scales of its columns.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) weight: &'a PackedWeight<'a>,
    pub(super) panel: usize,
    pub(super) k: usize,
    pub(super) scale: &'a [f32],
}

/// What the centres of the images met last add in the columns of a tile. Rows of an image follow each other, but for its
/// context tokens, so that a few are enough to make each once, or twice in large batches.
pub(super) struct Products {
    images: [usize; SLOTS],
    values: [[f32; MAX_PANEL]; SLOTS],
}

/// Images whose products are kept.
const SLOTS: usize = 8;

impl Products {
    /// None yet.
    #[inline(always)]
    pub(super) const fn new() -> Products {
        Products { images: [usize::MAX; SLOTS], values: [[0.0; MAX_PANEL]; SLOTS] }
    }

    /// The place of an image's products, and whether they are there; if not, the caller makes them.
    #[inline(always)]
    pub(super) fn of_image(&mut self, image: usize) -> (&mut [f32; MAX_PANEL], bool) {
        let slot = image % SLOTS;
        let there = self.images[slot] == image;
        self.images[slot] = image;
        (&mut self.values[slot], there)
    }
}

impl<'a> Centres<'a> {
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(centre: &Centre, rest: Option<&View>, memory: &Arena<'a>) -> Centres<'a> {
        // SAFETY: passed on.
        unsafe {
            Centres {
                row: memory.source(&centre.row),
                scale: memory.source(&centre.scale),
                rest: rest.map(|rest| memory.source(rest)),
                layout: centre.layout,
            }
        }
    }

    /// Writes an image's products with a panel's columns.
    ///
    /// # Safety
    /// The panel was packed for this instruction set from a weight of `k` columns.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, s: S, image: usize, panel: Panel<'_>, to: &mut [f32; MAX_PANEL]) {
        let Panel { weight, panel, k, scale } = panel;
        let (bytes, rest) = (weight.panel_bytes(panel), weight.rest(panel));
        let row = self.row.row(image);
        let x = row.as_ptr().cast();
        let mut sums = Sums([0.0; MAX_ROWS * MAX_PANEL]);
        let b = &mut Block { x, stride: 0, rows: 1, k, w: bytes.as_ptr(), sums: &mut sums, next: &[] };
        s.begin_blocks(1);
        // SAFETY: a row of the view, which was checked, and a packed panel.
        unsafe { s.row_i8(b) };
        let total = row.iter().fold(0, |sum: i32, &q| sum.wrapping_add(q.into())) as f32;
        let excess = if S::UNSIGNED { weight.excess(panel) } else { &[0; MAX_PANEL] };
        let mut codes = [s.splat(0.0); MAX_VECTORS];
        if !rest.is_empty() {
            // SAFETY: the panel's rest has the words of a row, each for all columns.
            codes = unsafe { products_with_codes(s, row, rest.as_ptr()) };
        }
        let factor = s.splat(if rest.is_empty() { 0.0 } else { 0.25 });
        for (v, codes) in (0..scale.len()).step_by(S::LANES).zip(codes) {
            // SAFETY: sums and excess are of a panel's width, i32.
            let y = unsafe { s.load_i32(sums.0[v..][..S::LANES].as_ptr().cast(), excess[v..].as_ptr()) };
            let y = s.mul_add(s.sub(codes, s.splat(1.5 * total)), factor, y);
            let scale = s.load_some(&scale[v..scale.len().min(v + S::LANES)]);
            s.store_some(&mut to[v..][..S::LANES], s.mul(y, s.mul(s.splat(self.scale.row(0)[image]), scale)));
        }
    }

    /// The product with column `c` of weights as they lie in the file, of which the codes' part alone.
    pub(super) fn codes(&self, image: usize, c: usize) -> f32 {
        let Some(rest) = &self.rest else { return 0.0 };
        let (row, rest) = (self.row.row(image), rest.row(c));
        let (mut sum, mut total) = (0i32, 0i32);
        for (q, words) in row.chunks(Rest::WORD).zip(rest.chunks(size_of::<u32>())) {
            for (k, &q) in q.iter().enumerate() {
                let (byte, bit) = Rest::place(k);
                sum = sum.wrapping_add(i32::from(q) * i32::from(words[byte] as u8 >> bit & 3));
                total = total.wrapping_add(q.into());
            }
        }
        (sum as f32 - 1.5 * total as f32) * 0.25
    }
}

/// Vectors of a panel at most.
const MAX_VECTORS: usize = 4;

/// Products of a row with a panel's codes.
///
/// # Safety
/// `rest` is readable for the words of a row, each for all columns.
#[inline(always)]
unsafe fn products_with_codes<S: Simd>(s: S, row: &[i8], mut rest: *const u8) -> [S::F32; MAX_VECTORS] {
    // Two sums for each vector, so that no product waits for the one before it.
    let mut sums = [[s.zero_i32(); 2]; MAX_VECTORS];
    let (words, tail) = row.as_chunks::<{ Rest::WORD }>();
    for word in words {
        // SAFETY: passed on.
        unsafe {
            add_codes(s, &mut sums, word, rest);
            rest = rest.add(size_of::<u32>() * S::PANEL);
        }
    }
    if !tail.is_empty() {
        let mut word = [0; Rest::WORD];
        word[..tail.len()].copy_from_slice(tail);
        // SAFETY: passed on.
        unsafe { add_codes(s, &mut sums, &word, rest) };
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
/// `rest` is readable for a word of each column of a panel.
#[inline(always)]
unsafe fn add_codes<S: Simd>(s: S, sums: &mut [[S::I32; 2]; MAX_VECTORS], word: &[i8; Rest::WORD], rest: *const u8) {
    let groups: [u32; 4] = bytemuck::cast(*word);
    let q = [s.splat_bytes(groups[0]), s.splat_bytes(groups[1]), s.splat_bytes(groups[2]), s.splat_bytes(groups[3])];
    for (v, sums) in sums.iter_mut().enumerate().take(S::PANEL / S::LANES) {
        // SAFETY: passed on.
        let codes = unsafe { s.codes(rest.add(size_of::<u32>() * S::LANES * v)) };
        for (i, (codes, q)) in codes.into_iter().zip(q).enumerate() {
            // The codes are not negative, so they may be on either side; the centre may be on the signed one only.
            sums[i % 2] = s.dot_bytes(sums[i % 2], q, codes);
        }
    }
}

const _: () = assert!(MAX_PANEL / 16 == MAX_VECTORS);
