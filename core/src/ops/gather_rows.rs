use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::built;
use crate::{DType, View};

/// `out[i · count + j] = x[index[i] · count + j]` for `j < count`: groups of rows picked by number, such as the
/// embeddings of tokens (`count` 1) or the text that each image belongs to.
#[derive(Clone, Copy, Debug)]
pub struct GatherRows {
    /// `(groups · count, cols)`: any float type, or bytes as int8.
    pub x: View,
    /// `(1, picks)` u32; core writes them below `groups`.
    pub index: View,
    /// Number of rows per group.
    pub count: usize,
    /// `(picks · count, cols)`: the type of `x`, or f32 from a float type.
    pub out: View,
}

impl GatherRows {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "gather_rows";
        require(built::TEXT, AT, built::NEEDS_TEXT)?;
        bounds.view(AT, &self.x)?;
        require(self.x.dtype != DType::U32, AT, "wrong element type")?;
        require(self.count > 0 && self.x.rows.is_multiple_of(self.count), AT, "groups of another size")?;
        bounds.shaped(AT, &self.index, DType::U32, 1, self.index.cols)?;
        require(self.out.rows == self.index.cols.saturating_mul(self.count), AT, "wrong number of rows")?;
        bounds.output(AT, &self.out, &[&self.x, &self.index])?;
        let widens = self.out.dtype == DType::F32 && self.x.dtype != DType::I8;
        require(widens || self.out.dtype == self.x.dtype, AT, "wrong element type")?;
        bounds.shaped(AT, &self.out, self.out.dtype, self.out.rows, self.x.cols)
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            let row = mem.index(&self.index, 0, r / self.count) * self.count + r % self.count;
            for c in 0..self.out.cols {
                let value = mem.load(&self.x, row, c);
                mem.store(&self.out, r, c, value);
            }
        }
    }
}
