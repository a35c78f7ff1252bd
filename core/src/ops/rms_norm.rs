use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::built;
use crate::{DType, View};

/// `out[r] = x[r] / √(mean(x[r]²) + eps) · weight + position[r mod period]`, row by row.
///
/// The squares are summed in f32: values from 1e18 on may overflow them.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// `(rows, hidden)` f32.
    pub x: View,
    /// `(1, hidden)` f32.
    pub weight: View,
    /// Added under the square root.
    pub eps: f32,
    /// `(period, hidden)` f32, added after the norm, if given.
    pub position: Option<View>,
    /// `(rows, hidden)` in the type that the next linear layer takes.
    pub out: View,
    /// `(1, rows)` f32, for int8 `out` only.
    pub out_scale: Option<View>,
}

impl RmsNorm {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "rms_norm";
        require(built::TEXT, AT, built::NEEDS_TEXT)?;
        let (rows, hidden) = (self.out.rows, self.out.cols);
        bounds.shaped(AT, &self.x, DType::F32, rows, hidden)?;
        bounds.shaped(AT, &self.weight, DType::F32, 1, hidden)?;
        if let Some(position) = &self.position {
            bounds.shaped(AT, position, DType::F32, position.rows, hidden)?;
            bounds.activations(AT, &self.out, &self.out_scale, &[position])?;
        }
        bounds.activations(AT, &self.out, &self.out_scale, &[&self.x, &self.weight])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.x.rows {
            let mean =
                (0..self.x.cols).map(|c| mem.load(&self.x, r, c)).map(|x| x * x).sum::<f64>() / self.x.cols as f64;
            let root = libm::sqrt(mean + f64::from(self.eps));
            mem.store_row(&self.out, self.out_scale.as_ref(), r, |mem, c| {
                let position = self.position.map_or(0.0, |p| mem.load(&p, r % p.rows, c));
                mem.load(&self.x, r, c) / root * mem.load(&self.weight, 0, c) + position
            });
        }
    }
}
