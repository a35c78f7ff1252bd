use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, TokenLayout, View};

/// Approximate number of an image's rows that are averaged for its centre. More would cost time and hardly change it.
const SAMPLES: usize = 32;

/// The shared mean of an image's tokens, subtracted from int8 activations before rounding.
///
/// Half of the input of a block's linear layers, and nearly all of the input of the layer after attention, is the same
/// in every token. Rounded with the tokens, this part uses up most of their 255 steps, and its error from the weights'
/// rounding is the same in all tokens and does not average out. So a producer ([`NormModulate`](super::NormModulate),
/// [`QuantizeRows`](super::QuantizeRows)) writes `centre` and rounds `x − centre`; [`Linear`](super::Linear) adds
/// `centre · wᵀ`, computed once per image with finer weights ([`Rest`](crate::Rest)).
///
/// An image's centre is the mean of about 32 evenly spaced image tokens, rounded to int8 like a row of
/// [`QuantizeRows`](super::QuantizeRows). Any row would be correct, because the product adds back what was subtracted.
#[derive(Clone, Copy, Debug)]
pub struct Centre {
    /// `(images, k)` int8.
    pub row: View,
    /// `(1, images)` f32.
    pub scale: View,
    /// `(images, k)` f32: `row · scale`.
    pub value: View,
    /// The mapping from rows of the activations to images.
    pub layout: TokenLayout,
}

impl Centre {
    /// The image tokens that are averaged: the first, and the step between them.
    pub const fn samples(&self) -> (usize, usize) {
        let step = self.layout.image_tokens / SAMPLES;
        if step == 0 { (0, 1) } else { (step / 2, step) }
    }

    /// The same centre for a pass with this layout.
    pub(crate) const fn of(self, layout: TokenLayout) -> Centre {
        let images = layout.images;
        Centre {
            row: self.row.rows_from(0, images),
            scale: self.scale.cols_from(0, images),
            value: self.value.rows_from(0, images),
            layout,
        }
    }

    fn check(&self, at: &'static str, bounds: &Bounds, rows: usize, k: usize) -> Result<(), InvalidOp> {
        let Centre { row, scale, value, layout } = self;
        require(
            layout.image_tokens > 0 && layout.rows() == rows,
            at,
            "the centre's layout has another number of rows",
        )?;
        bounds.shaped(at, row, DType::I8, layout.images, k)?;
        bounds.shaped(at, scale, DType::F32, 1, layout.images)?;
        bounds.shaped(at, value, DType::F32, layout.images, k)
    }

    /// Adds the views that a producer writes in addition to `outputs`.
    pub(super) fn check_output(
        &self,
        at: &'static str,
        bounds: &Bounds,
        (out, out_scale): (&View, &Option<View>),
        inputs: &[&View],
    ) -> Result<(), InvalidOp> {
        require(out.dtype == DType::I8, at, "only int8 activations have a centre")?;
        self.check(at, bounds, out.rows, out.cols)?;
        let mut written = [Some(out), out_scale.as_ref(), Some(&self.row), Some(&self.scale), Some(&self.value)];
        for i in 2..written.len() {
            let Some(view) = written[i].take() else { continue };
            bounds.output(at, view, inputs)?;
            require(!written.iter().flatten().any(|other| other.overlaps(view)), at, "outputs overlap")?;
        }
        Ok(())
    }

    /// The views that a linear layer with output `out` reads.
    pub(super) fn check_input(&self, at: &'static str, bounds: &Bounds, x: &View, out: &View) -> Result<(), InvalidOp> {
        require(x.dtype == DType::I8, at, "only int8 activations have a centre")?;
        self.check(at, bounds, x.rows, x.cols)?;
        let views = [&self.row, &self.scale, &self.value];
        require(!views.iter().any(|view| view.overlaps(out)), at, "output overlaps an input")
    }

    /// Writes the centre of rows whose elements are `value(memory, row, column)`.
    pub(super) fn reference(&self, mem: &mut Memory<'_>, value: impl Fn(&Memory<'_>, usize, usize) -> f64) {
        let (first, step) = self.samples();
        for image in 0..self.layout.images {
            for c in 0..self.value.cols {
                let tokens = (first..self.layout.image_tokens).step_by(step);
                let count = tokens.len() as f64;
                let sum = tokens.map(|token| value(mem, self.layout.row_of(image, token), c)).sum::<f64>();
                mem.store(&self.value, image, c, sum / count);
            }
            mem.store_row(&self.row, Some(&self.scale), image, |mem, c| mem.load(&self.value, image, c));
            for c in 0..self.value.cols {
                let value = mem.load(&self.row, image, c) * mem.load(&self.scale, 0, image);
                mem.store(&self.value, image, c, value);
            }
        }
    }
}
