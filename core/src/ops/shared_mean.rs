use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, TokenLayout, View};

/// Rows of an image that its shared mean is the mean of, about: more would cost time and hardly move it.
const SAMPLES: usize = 32;

/// What the tokens of an image have in common, taken out of int8 activations before they are rounded.
///
/// Half of what enters a block's linear layers, and nearly all of what enters the one after attention, is the same in
/// every token. Rounded with the tokens it takes most of their 255 steps, and the weights' own rounding acts on it
/// alike in all of them, so that nothing averages out. So a producer ([`NormModulate`](super::NormModulate),
/// [`QuantizeRows`](super::QuantizeRows)) writes `shared_mean` and rounds `x − shared mean`, and
/// [`Linear`](super::Linear) adds `shared mean · wᵀ`, computed once for an image and with finer weights
/// ([`QuantResidual`](crate::QuantResidual)).
///
/// An image's shared mean is the mean of every `n`-th of its image tokens, about 32 of them, rounded to int8 as
/// [`QuantizeRows`](super::QuantizeRows) rounds a row. Any row would be right: what is taken out is added again.
#[derive(Clone, Copy, Debug)]
pub struct SharedMean {
    /// `(images, k)` int8.
    pub row: View,
    /// `(1, images)` f32.
    pub scale: View,
    /// `(images, k)` f32: `row · scale`.
    pub value: View,
    /// Which image a row of the activations belongs to.
    pub layout: TokenLayout,
}

impl SharedMean {
    /// The image tokens that count: the first, and the step from one to the next.
    pub const fn samples(&self) -> (usize, usize) {
        let step = self.layout.image_tokens / SAMPLES;
        if step == 0 { (0, 1) } else { (step / 2, step) }
    }

    /// The same for a pass of this layout.
    pub(crate) const fn of(self, layout: TokenLayout) -> SharedMean {
        let images = layout.images;
        SharedMean {
            row: self.row.rows_from(0, images),
            scale: self.scale.cols_from(0, images),
            value: self.value.rows_from(0, images),
            layout,
        }
    }

    fn check(&self, at: &'static str, bounds: &Bounds, rows: usize, k: usize) -> Result<(), InvalidOp> {
        let SharedMean { row, scale, value, layout } = self;
        require(
            layout.image_tokens > 0 && layout.rows() == rows,
            at,
            "the shared mean's layout has another number of rows",
        )?;
        bounds.shaped(at, row, DType::I8, layout.images, k)?;
        bounds.shaped(at, scale, DType::F32, 1, layout.images)?;
        bounds.shaped(at, value, DType::F32, layout.images, k)
    }

    /// What a producer writes beside `outputs`.
    pub(super) fn check_output(
        &self,
        at: &'static str,
        bounds: &Bounds,
        (out, out_scale): (&View, &Option<View>),
        inputs: &[&View],
    ) -> Result<(), InvalidOp> {
        require(out.dtype == DType::I8, at, "only int8 activations have a shared mean")?;
        self.check(at, bounds, out.rows, out.cols)?;
        let mut written = [Some(out), out_scale.as_ref(), Some(&self.row), Some(&self.scale), Some(&self.value)];
        for i in 2..written.len() {
            let Some(view) = written[i].take() else { continue };
            bounds.output(at, view, inputs)?;
            require(!written.iter().flatten().any(|other| other.overlaps(view)), at, "outputs overlap")?;
        }
        Ok(())
    }

    /// What a linear layer reads that writes `out`.
    pub(super) fn check_input(&self, at: &'static str, bounds: &Bounds, x: &View, out: &View) -> Result<(), InvalidOp> {
        require(x.dtype == DType::I8, at, "only int8 activations have a shared mean")?;
        self.check(at, bounds, x.rows, x.cols)?;
        let views = [&self.row, &self.scale, &self.value];
        require(!views.iter().any(|view| view.overlaps(out)), at, "output overlaps an input")
    }

    /// Writes the shared mean of rows whose elements are `value(memory, row, column)`.
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
