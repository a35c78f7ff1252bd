use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::built;
use crate::{DType, View};

/// `out = (x − mean(x)) / √(mean((x − mean(x))²) + eps)`, row by row, without weight or bias.
///
/// The squares are summed in f32: values from 1e18 on may overflow them.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// `(rows, hidden)` f32.
    pub x: View,
    /// Added under the square root.
    pub eps: f32,
    /// `(rows, hidden)` in the type that the next linear layer takes.
    pub out: View,
    /// `(1, rows)` f32, for int8 `out` only.
    pub out_scale: Option<View>,
}

impl LayerNorm {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "layer_norm";
        require(built::TEXT, AT, built::NEEDS_TEXT)?;
        bounds.shaped(AT, &self.x, DType::F32, self.out.rows, self.out.cols)?;
        bounds.activations(AT, &self.out, &self.out_scale, &[&self.x])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let count = self.x.cols as f64;
        for r in 0..self.x.rows {
            let row = || 0..self.x.cols;
            let mean = row().map(|c| mem.load(&self.x, r, c)).sum::<f64>() / count;
            let variance = row().map(|c| mem.load(&self.x, r, c) - mean).map(|d| d * d).sum::<f64>() / count;
            let root = libm::sqrt(variance + f64::from(self.eps));
            mem.store_row(&self.out, self.out_scale.as_ref(), r, |mem, c| (mem.load(&self.x, r, c) - mean) / root);
        }
    }
}
