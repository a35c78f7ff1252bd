use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// In place on the queries and keys of `qkv`: RMSNorm of each head, then a rotation of each channel pair.
///
/// A pair `(a, b)` at channels `2k, 2k + 1` of a rotated row `r` becomes `(a·cos − b·sin, b·cos + a·sin)`, the
/// cosine and sine at columns `2k, 2k + 1` of row `r mod rope.rows`.
#[derive(Clone, Copy, Debug)]
pub struct QkNormRope {
    /// `(rows, 3 · hidden)` f32: queries, keys, values, each `(heads, head_dim)`.
    pub qkv: View,
    /// `(1, head_dim)` f32.
    pub q_weight: View,
    /// `(1, head_dim)` f32.
    pub k_weight: View,
    /// Added under the root.
    pub eps: f32,
    /// Heads in `hidden`.
    pub heads: usize,
    /// `(tokens, head_dim)` f32: cosine and sine alternate.
    pub rope: View,
    /// Rows below this are rotated; those from it on (context tokens) are only normed.
    pub rotated_rows: usize,
}

impl QkNormRope {
    /// # Errors
    /// [`InvalidOp`] when a view lies outside its region or shapes and types do not fit.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "qk_norm_rope";
        let head_dim = self.q_weight.cols;
        require(head_dim.is_multiple_of(2) && self.heads * head_dim * 3 == self.qkv.cols, AT, "wrong shape")?;
        bounds.shaped(AT, &self.q_weight, DType::F32, 1, head_dim)?;
        bounds.shaped(AT, &self.k_weight, DType::F32, 1, head_dim)?;
        require(self.rope.rows > 0 || self.rotated_rows == 0, AT, "no rotation table")?;
        bounds.shaped(AT, &self.rope, DType::F32, self.rope.rows, head_dim)?;
        require(self.rotated_rows <= self.qkv.rows, AT, "more rotated rows than rows")?;
        bounds.output(AT, &self.qkv, &[&self.rope])?;
        require(self.qkv.dtype == DType::F32, AT, "wrong element type")
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let head_dim = self.q_weight.cols;
        for r in 0..self.qkv.rows {
            for head in 0..2 * self.heads {
                let weight = if head < self.heads { &self.q_weight } else { &self.k_weight };
                let x = self.qkv.cols_from(head * head_dim, head_dim);
                let mean = (0..head_dim).map(|c| mem.load(&x, r, c)).map(|x| x * x).sum::<f64>() / head_dim as f64;
                let root = libm::sqrt(mean + f64::from(self.eps));
                for pair in (0..head_dim).step_by(2) {
                    let a = mem.load(&x, r, pair) / root * mem.load(weight, 0, pair);
                    let b = mem.load(&x, r, pair + 1) / root * mem.load(weight, 0, pair + 1);
                    let (cos, sin) = if r < self.rotated_rows {
                        let row = r % self.rope.rows;
                        (mem.load(&self.rope, row, pair), mem.load(&self.rope, row, pair + 1))
                    } else {
                        (1.0, 0.0)
                    };
                    mem.store(&x, r, pair, a * cos - b * sin);
                    mem.store(&x, r, pair + 1, b * cos + a * sin);
                }
            }
        }
    }
}
