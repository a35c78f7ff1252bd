//! Taking what an image's rows have in common out of them before they are rounded to int8.

use super::matrix::{Source, Target};
use super::memory::Arena;
use super::rounded::{Rounded, RowSource, Values};
use super::simd::Simd;
use super::tiles::Tiles;
use crate::built;
use crate::ops::SharedMean;
use crate::{TokenLayout, View};

/// Writes the shared means, one image to a tile.
pub(super) struct Means<'a, 'r, R> {
    rows: &'r R,
    row: Rounded<'a>,
    rounded: Source<'a, i8>,
    scale: Source<'a, f32>,
    value: Target<'a, f32>,
    layout: TokenLayout,
    samples: (usize, usize),
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a, 'r, R: RowSource>(
    shared_mean: &SharedMean,
    rows: &'r R,
    memory: &Arena<'a>,
) -> (usize, Means<'a, 'r, R>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel. A tile reads what it wrote itself.
    let kernel = unsafe {
        Means {
            rows,
            row: Rounded::new(memory, &shared_mean.row, Some(&shared_mean.scale)),
            rounded: memory.source(&shared_mean.row),
            scale: memory.source(&shared_mean.scale),
            value: memory.target(&shared_mean.value),
            layout: shared_mean.layout,
            samples: shared_mean.samples(),
        }
    };
    (shared_mean.layout.images, kernel)
}

impl<R: RowSource> Tiles for Means<'_, '_, R> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, image: usize) {
        let (first, step) = self.samples;
        // SAFETY: a tile is an image.
        let value = unsafe { self.value.row(image) };
        value.fill(0.0);
        let mut count = 0.0;
        for token in (first..self.layout.image_tokens).step_by(step) {
            let row = self.rows.values(s, self.layout.row_of(image, token));
            for (i, value) in value.chunks_mut(S::LANES).enumerate() {
                s.store_some(value, s.add(s.load_some(value), row.at(s, i * S::LANES)));
            }
            count += 1.0;
        }
        for value in value.chunks_mut(S::LANES) {
            s.store_some(value, s.div(s.load_some(value), s.splat(count)));
        }
        // SAFETY: a tile is an image, whose row no other tile writes.
        unsafe { self.row.store_row(s, image, value.len(), &*value) };
        let scale = self.scale.element(0, image);
        for (value, &q) in value.iter_mut().zip(self.rounded.row(image)) {
            *value = f32::from(q) * scale;
        }
    }
}

/// The shared means that rows are rounded about.
#[derive(Clone, Copy)]
pub(super) struct SharedMeans<'a> {
    value: Source<'a, f32>,
    layout: TokenLayout,
}

impl<'a> SharedMeans<'a> {
    /// # Safety
    /// As [`Arena::source`], from when the shared means were written.
    pub(super) unsafe fn new(shared_mean: &SharedMean, memory: &Arena<'a>) -> SharedMeans<'a> {
        // SAFETY: the caller checked the descriptor, and runs no other kernel.
        SharedMeans { value: unsafe { memory.source(&shared_mean.value) }, layout: shared_mean.layout }
    }

    /// What is left of row `r`.
    #[inline(always)]
    pub(super) fn taken_from<V>(&self, r: usize, values: V) -> Left<'a, V> {
        Left { values, shared_mean: self.value.row(self.layout.image_of(r)) }
    }
}

/// A row less its shared mean.
pub(super) struct Left<'a, V> {
    values: V,
    shared_mean: &'a [f32],
}

impl<S: Simd, V: Values<S>> Values<S> for Left<'_, V> {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        s.sub(self.values.at(s, c), s.load_some(&self.shared_mean[c..]))
    }
}

/// Rounds rows, a row to a tile, about their shared means where there are any.
pub(super) struct RoundedRows<'a, R> {
    pub(super) rows: R,
    out: Rounded<'a>,
    cols: usize,
    shared_means: Option<SharedMeans<'a>>,
}

impl<'a, R> RoundedRows<'a, R> {
    /// # Safety
    /// The views were checked, and no other kernel runs.
    pub(super) unsafe fn new(
        rows: R,
        memory: &Arena<'a>,
        out: &View,
        scale: Option<&View>,
        shared_mean: Option<&SharedMean>,
    ) -> (usize, Self) {
        // SAFETY: the caller checked the descriptor, and runs no other kernel.
        unsafe {
            let shared_means = shared_mean.map(|shared_mean| SharedMeans::new(shared_mean, memory));
            (out.rows, RoundedRows { rows, out: Rounded::new(memory, out, scale), cols: out.cols, shared_means })
        }
    }
}

impl<R: RowSource> Tiles for RoundedRows<'_, R> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let values = self.rows.values(s, r);
        // SAFETY: a tile is a row.
        unsafe {
            match &self.shared_means {
                Some(shared_means) if built::INT8 => {
                    self.out.store_row(s, r, self.cols, shared_means.taken_from(r, values))
                }
                _ => self.out.store_row(s, r, self.cols, values),
            }
        }
    }
}
