use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// `out[image · count + i] = table[label[image]] + position[i]`: the in-context class tokens.
#[derive(Clone, Copy, Debug)]
pub struct ContextTokens {
    /// `(classes + 1, hidden)`, any float weight type.
    pub table: View,
    /// `(count, hidden)` f32.
    pub position: View,
    /// `(1, images)` u32; core writes them below `table.rows`.
    pub labels: View,
    /// `(images · count, hidden)` f32.
    pub out: View,
}

impl ContextTokens {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "context_tokens";
        let hidden = self.out.cols;
        bounds.view(AT, &self.table)?;
        require(matches!(self.table.dtype, DType::F32 | DType::F16 | DType::BF16), AT, "wrong element type")?;
        require(self.table.cols == hidden, AT, "wrong shape")?;
        bounds.shaped(AT, &self.position, DType::F32, self.position.rows, hidden)?;
        bounds.shaped(AT, &self.labels, DType::U32, 1, self.labels.cols)?;
        require(self.out.rows == self.labels.cols.saturating_mul(self.position.rows), AT, "wrong number of rows")?;
        bounds.output(AT, &self.out, &[&self.table, &self.position, &self.labels])?;
        bounds.shaped(AT, &self.out, DType::F32, self.out.rows, hidden)
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            let label = mem.index(&self.labels, 0, r / self.position.rows);
            for c in 0..self.out.cols {
                let sum = mem.load(&self.table, label, c) + mem.load(&self.position, r % self.position.rows, c);
                mem.store(&self.out, r, c, sum);
            }
        }
    }
}
