use super::memory::{Bounds, InvalidOp, Memory, silu};
use crate::{DType, View};

/// `out = SiLU(x[.., ..half]) · x[.., half..]`.
#[derive(Clone, Copy, Debug)]
pub struct Swiglu {
    /// `(rows, 2 · half)` f32. Its first half may be overwritten: the place for what is yet to be quantised.
    pub x: View,
    /// `(rows, half)` in the type that the next linear layer takes.
    pub out: View,
    /// `(1, rows)` f32, for int8 `out` only.
    pub out_scale: Option<View>,
}

impl Swiglu {
    /// # Errors
    /// [`InvalidOp`] when a view lies outside its region or shapes and types do not fit.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "swiglu";
        bounds.shaped(AT, &self.x, DType::F32, self.out.rows, self.out.cols.saturating_mul(2))?;
        bounds.output(AT, &self.x, &[])?;
        bounds.activations(AT, &self.out, &self.out_scale, &[&self.x])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            mem.store_row(&self.out, self.out_scale.as_ref(), r, |mem, c| {
                silu(mem.load(&self.x, r, c)) * mem.load(&self.x, r, self.out.cols + c)
            });
        }
    }
}
