//! Taking what an image's rows have in common out of them before they are rounded to int8.

use super::Tiles;
use super::memory::{Arena, Source, Target};
use super::quantize_rows::{Rounded, Rows, Values};
use super::simd::Simd;
use crate::TokenLayout;
use crate::ops::Centre;

/// Writes the centres, one image to a tile.
pub(super) struct Kernel<'a, 'r, R> {
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
pub(super) unsafe fn tiles<'a, 'r, R: Rows>(
    centre: &Centre,
    rows: &'r R,
    memory: &Arena<'a>,
) -> (usize, Kernel<'a, 'r, R>) {
    // SAFETY: passed on. A tile reads what it wrote itself.
    let kernel = unsafe {
        Kernel {
            rows,
            row: Rounded::new(memory, &centre.row, Some(&centre.scale)),
            rounded: memory.source(&centre.row),
            scale: memory.source(&centre.scale),
            value: memory.target(&centre.value),
            layout: centre.layout,
            samples: centre.samples(),
        }
    };
    (centre.layout.images, kernel)
}

impl<R: Rows> Tiles for Kernel<'_, '_, R> {
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
        // SAFETY: as above.
        unsafe { self.row.store_row(s, image, value.len(), &*value) };
        let scale = self.scale.row(0)[image];
        for (value, &q) in value.iter_mut().zip(self.rounded.row(image)) {
            *value = f32::from(q) * scale;
        }
    }
}

/// The centres that rows are rounded about.
#[derive(Clone, Copy)]
pub(super) struct Centres<'a> {
    value: Source<'a, f32>,
    layout: TokenLayout,
}

impl<'a> Centres<'a> {
    /// # Safety
    /// As [`Arena::source`], from when the centres were written.
    pub(super) unsafe fn new(centre: &Centre, memory: &Arena<'a>) -> Centres<'a> {
        // SAFETY: passed on.
        Centres { value: unsafe { memory.source(&centre.value) }, layout: centre.layout }
    }

    /// What is left of row `r`.
    #[inline(always)]
    pub(super) fn taken_from<V>(&self, r: usize, values: V) -> Left<'a, V> {
        Left { values, centre: self.value.row(self.layout.image_of(r)) }
    }
}

/// A row less its centre.
pub(super) struct Left<'a, V> {
    values: V,
    centre: &'a [f32],
}

impl<S: Simd, V: Values<S>> Values<S> for Left<'_, V> {
    #[inline(always)]
    fn at(&self, s: S, c: usize) -> S::F32 {
        s.sub(self.values.at(s, c), s.load_some(&self.centre[c..]))
    }
}
