//! What was taken out of int8 activations, times the weights: once for an image, added to each of its rows.

use core::mem::MaybeUninit;

use super::super::memory::{Arena, Source};
use super::super::pack::PackedWeight;
use super::super::simd::Simd;
use super::super::simd::product::{Block, MAX_PANEL, Sums};
use crate::ops::{Centre, MAX_IMAGES, Rest};
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

/// What the centre of each image adds in the columns of a tile: room for the most there can be, of which a tile uses
/// little, so that it is not worth clearing.
pub(super) struct Products {
    values: [MaybeUninit<f32>; MAX_IMAGES * MAX_PANEL],
    width: usize,
}

impl Products {
    /// Room for tiles of `width` columns.
    #[inline(always)]
    pub(super) const fn new(width: usize) -> Products {
        Products { values: [MaybeUninit::uninit(); MAX_IMAGES * MAX_PANEL], width }
    }

    /// An image's.
    ///
    /// # Safety
    /// It was written by [`Centres::write`], or cleared.
    #[inline(always)]
    pub(super) unsafe fn of_image(&self, image: usize) -> &[f32] {
        let values = &self.values[image * self.width..][..self.width];
        // SAFETY: written, as promised.
        unsafe { &*(&raw const *values as *const [f32]) }
    }

    /// An image's, zeros at first.
    #[inline(always)]
    pub(super) fn clear(&mut self, image: usize) -> &mut [f32] {
        let values = &mut self.values[image * self.width..][..self.width];
        values.fill(MaybeUninit::new(0.0));
        // SAFETY: written right above.
        unsafe { &mut *(&raw mut *values as *mut [f32]) }
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

    /// Writes the products with a panel's columns; `sums` is room.
    ///
    /// # Safety
    /// The panel was packed for this instruction set from a weight of `k` columns.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, s: S, panel: Panel<'_>, sums: &mut Sums, products: &mut Products) {
        let Panel { weight, panel, k, scale } = panel;
        let (bytes, rest) = (&weight.bytes[panel * weight.panel_bytes..][..weight.panel_bytes], weight.rest(panel));
        s.begin_blocks(1);
        for image in 0..self.layout.images {
            let row = self.row.row(image);
            let x = row.as_ptr().cast();
            let b = &mut Block { x, stride: 0, rows: 1, k, w: bytes.as_ptr(), sums: &mut *sums, next: &[] };
            // SAFETY: a row of the view, which was checked, and a packed panel.
            unsafe { s.row_i8(b) };
            let total = row.iter().fold(0, |sum: i32, &q| sum.wrapping_add(q.into())) as f32;
            let excess = if S::UNSIGNED { weight.excess(panel) } else { &[0; MAX_PANEL] };
            let to = products.clear(image);
            for v in (0..scale.len()).step_by(S::LANES) {
                // SAFETY: sums and excess are of a panel's width, i32.
                let mut y = unsafe { s.load_i32(sums.0[v..][..S::LANES].as_ptr().cast(), excess[v..].as_ptr()) };
                if !rest.is_empty() {
                    // SAFETY: the panel's rest has the words of a row, each for all columns.
                    let codes = unsafe { products_with_codes(s, row, rest.as_ptr().add(v * size_of::<u32>())) };
                    y = s.mul_add(s.sub(codes, s.splat(1.5 * total)), s.splat(0.25), y);
                }
                let scale = s.load_some(&scale[v..scale.len().min(v + S::LANES)]);
                s.store_some(&mut to[v..][..S::LANES], s.mul(y, s.mul(s.splat(self.scale.row(0)[image]), scale)));
            }
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

/// Products of a row with a vector of columns' codes, whose words lie a panel apart.
///
/// # Safety
/// `rest` is readable for the words of a row.
#[inline(always)]
unsafe fn products_with_codes<S: Simd>(s: S, row: &[i8], mut rest: *const u8) -> S::F32 {
    let mut sums = [s.zero_i32(); 4];
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
    let mut total = s.splat(0.0);
    for sums in sums {
        let mut lanes = [0; super::super::simd::MAX_LANES];
        // SAFETY: at least LANES elements each.
        total = s.add(total, unsafe {
            s.store_i32(lanes.as_mut_ptr(), sums);
            s.load_i32(lanes.as_ptr(), [0; super::super::simd::MAX_LANES].as_ptr())
        });
    }
    total
}

/// # Safety
/// `rest` is readable for a word of each column of a vector.
#[inline(always)]
unsafe fn add_codes<S: Simd>(s: S, sums: &mut [S::I32; 4], word: &[i8; Rest::WORD], rest: *const u8) {
    // SAFETY: passed on.
    let codes = unsafe { s.codes(rest) };
    for (i, (sum, codes)) in sums.iter_mut().zip(codes).enumerate() {
        let q = [word[4 * i], word[4 * i + 1], word[4 * i + 2], word[4 * i + 3]].map(i8::cast_unsigned);
        // The codes are not negative, so they may be on either side; the centre may be on the signed one only.
        *sum = s.dot_bytes(*sum, s.splat_bytes(u32::from_ne_bytes(q)), codes);
    }
}
