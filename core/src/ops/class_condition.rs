use super::memory::{Bounds, InvalidOp, Memory, require, silu};
use crate::{DType, View};

/// `out[t · labels + l] = SiLU(t_emb[t] + table[label[l]])`: the conditioning vectors of a chunk of steps.
#[derive(Clone, Copy, Debug)]
pub struct ClassCondition {
    /// `(times, hidden)` f32.
    pub t_emb: View,
    /// `(classes + 1, hidden)`, any float weight type; the last row is the null class.
    pub table: View,
    /// `(1, labels)` u32; core writes them below `table.rows`.
    pub labels: View,
    /// `(times · labels, hidden)` f32.
    pub out: View,
}

impl ClassCondition {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "class_condition";
        let hidden = self.out.cols;
        bounds.shaped(AT, &self.t_emb, DType::F32, self.t_emb.rows, hidden)?;
        bounds.shaped(AT, &self.labels, DType::U32, 1, self.labels.cols)?;
        bounds.view(AT, &self.table)?;
        require(matches!(self.table.dtype, DType::F32 | DType::F16 | DType::BF16), AT, "wrong element type")?;
        require(self.table.cols == hidden, AT, "wrong shape")?;
        require(self.out.rows == self.t_emb.rows.saturating_mul(self.labels.cols), AT, "wrong number of rows")?;
        bounds.output(AT, &self.out, &[&self.t_emb, &self.table, &self.labels])?;
        bounds.shaped(AT, &self.out, DType::F32, self.out.rows, hidden)
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            let (t, l) = (r / self.labels.cols, r % self.labels.cols);
            let label = mem.index(&self.labels, 0, l);
            for c in 0..self.out.cols {
                let sum = mem.load(&self.t_emb, t, c) + mem.load(&self.table, label, c);
                mem.store(&self.out, r, c, silu(sum));
            }
        }
    }
}
