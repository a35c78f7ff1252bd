//! Panels of weights: packed ones as a whole, others packed from where they lie, a slice of `k` at a time. Both are the
//! same words in the same order, so that products are the same to the bit.

use super::super::matrix::Source;
use super::super::memory::Arena;
use super::super::pack::{PackedWeight, Word, add_excess, pack_rows};
use super::super::simd::Simd;
use super::super::simd::block::{CHUNK, MAX_PANEL, Row, RowArray};
use crate::{DType, Weight};

/// A slice of a panel.
pub(super) struct Slice<S: Simd> {
    words: S::Slice,
    /// What the sums of each column so far are too large by, the bits of i32.
    excess: S::Panel,
}

impl<S: Simd> Slice<S> {
    /// Bytes of a column: whole chunks, as a panel has them.
    const COLUMN: usize = 4 * S::Slice::COUNT;

    /// Nothing yet.
    #[inline(always)]
    pub(super) fn new() -> Slice<S> {
        Slice { words: S::Slice::new(), excess: S::Panel::splat(0.0) }
    }
}

/// What the sums of a panel's columns are too large by.
pub(super) enum Excess<'a, S: Simd> {
    Packed(&'a [i32]),
    /// The bits of i32.
    Loose(S::Panel),
}

impl<S: Simd> Excess<'_, S> {
    /// One number for each column.
    #[inline(always)]
    pub(super) fn as_ref(&self) -> &[i32] {
        match self {
            Excess::Packed(excess) => excess,
            Excess::Loose(excess) => bytemuck::cast_slice(excess.as_columns()),
        }
    }
}

/// A weight matrix in panels.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    Packed(PackedWeight<'a>),
    Loose(Loose<'a>),
}

/// Weights that are not packed.
#[derive(Clone, Copy)]
pub(super) struct Loose<'a> {
    data: Source<'a, u8>,
    dtype: DType,
    residual: Option<Source<'a, u8>>,
}

impl<'a> Loose<'a> {
    /// # Safety
    /// The weight was checked.
    pub(super) unsafe fn new(weight: &Weight, memory: &Arena<'a>) -> Loose<'a> {
        // SAFETY: the caller checked the weight.
        unsafe {
            let residual = weight.residual().map(|residual| memory.bytes_of_rows(&residual));
            Loose { data: memory.bytes_of_rows(&weight.data), dtype: weight.data.dtype, residual }
        }
    }

    /// Packs what follows byte `from` of a panel's columns; the bytes of a column that this gave.
    #[cfg_attr(feature = "simd", inline(always))]
    fn pack<S: Simd>(&self, s: S, panel: usize, from: usize, to: &mut Slice<S>) -> usize {
        let word = Word::of(self.dtype, S::I8_GROUP);
        let (bytes, words) = pack_slice(s, &self.data, word, panel, from, &mut to.words);
        if S::UNSIGNED && self.dtype == DType::I8 {
            if from == 0 {
                to.excess = S::Panel::splat(0.0);
            }
            add_excess(s, words, bytemuck::cast_slice_mut(to.excess.columns()));
        }
        bytes
    }
}

impl<'a> Weights<'a> {
    /// What the sums of the panel's columns are too large by, after all of its slices were taken.
    #[inline(always)]
    pub(super) fn excess<S: Simd>(&self, panel: usize, slice: &Slice<S>) -> Excess<'a, S> {
        match self {
            _ if !S::UNSIGNED => Excess::Packed(&[0; MAX_PANEL]),
            Weights::Packed(weight) => Excess::Packed(weight.excess(panel)),
            Weights::Loose(_) => Excess::Loose(slice.excess),
        }
    }

    /// A panel's weights from element `k` of its columns on, of `size` bytes each, and how many they are of `end - k`.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) fn from<S: Simd>(
        &self,
        s: S,
        panel: usize,
        k: core::ops::Range<usize>,
        size: usize,
        slice: &mut Slice<S>,
    ) -> (*const u8, usize) {
        match self {
            Weights::Packed(weight) => (weight.panel_bytes(panel).as_ptr(), k.end - k.start),
            Weights::Loose(weight) => {
                let bytes = weight.pack(s, panel, k.start * size, slice);
                (slice.words.rows().as_ptr().cast(), bytes / size)
            }
        }
    }

    /// Whether the panel has a [`QuantResidual`](crate::QuantResidual).
    #[inline(always)]
    pub(super) fn has_residual(&self) -> bool {
        match self {
            Weights::Packed(weight) => weight.has_residual(),
            Weights::Loose(weight) => weight.residual.is_some(),
        }
    }

    /// The panel's [`QuantResidual`](crate::QuantResidual) from word `word` of its columns on, and how many words of
    /// `end - word`.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) fn residual_from<S: Simd>(
        &self,
        s: S,
        panel: usize,
        word: core::ops::Range<usize>,
        slice: &mut Slice<S>,
    ) -> (*const u8, usize) {
        match self {
            Weights::Packed(weight) => (weight.residual(panel).as_ptr(), word.end - word.start),
            Weights::Loose(Loose { residual: Some(residual), .. }) => {
                let start = word.start * size_of::<u32>();
                let (bytes, _) = pack_slice::<S>(s, residual, Word::Four, panel, start, &mut slice.words);
                (slice.words.rows().as_ptr().cast(), bytes / size_of::<u32>())
            }
            Weights::Loose(_) => (core::ptr::null(), word.end - word.start),
        }
    }
}

/// Packs what follows byte `from` of a panel's rows; the bytes of a row that this gave, and all that was written.
#[cfg_attr(feature = "simd", inline(always))]
fn pack_slice<'s, S: Simd>(
    s: S,
    rows: &Source<'_, u8>,
    word: Word,
    panel: usize,
    from: usize,
    words: &'s mut S::Slice,
) -> (usize, &'s [u8]) {
    const { assert!(Slice::<S>::COLUMN.is_multiple_of(CHUNK)) };
    let bytes = Slice::<S>::COLUMN.min(rows.cols - from);
    let len = bytes.next_multiple_of(CHUNK) * S::PANEL;
    // SAFETY: rows of a panel's width are plain words, at least `len` bytes of them.
    let to = unsafe { core::slice::from_raw_parts_mut(words.rows().as_mut_ptr().cast::<u8>(), len) };
    pack_rows(s, rows, word, panel * S::PANEL, from..from + bytes, to);
    (bytes, to)
}
