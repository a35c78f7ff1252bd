use super::MAX_HEAD_DIM;
use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::built;
use crate::{DType, View};

/// `out = softmax(q · kᵀ / √head_dim) · v` within each sequence, where token `i` attends to the tokens `j ≤ i` that are
/// not padding (`j < length`). In a sequence of length 0 every token gets zeros.
///
/// Query head `n` uses key head `n / (heads / kv_heads)`: grouped-query attention (arXiv 2305.13245).
#[derive(Clone, Copy, Debug)]
pub struct CausalAttention {
    /// `(sequences · tokens, heads · head_dim)` f32.
    pub q: View,
    /// `(sequences · tokens, kv_heads · head_dim)` f32.
    pub k: View,
    /// `(sequences · tokens, kv_heads · head_dim)` f32.
    pub v: View,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// `(1, sequences)` u32: tokens of each sequence before its padding; core writes at most `tokens`.
    pub lengths: View,
    /// `(sequences · tokens, heads · head_dim)`, f32 or a 16-bit type.
    pub out: View,
}

impl CausalAttention {
    /// Channels of one head.
    pub const fn head_dim(&self) -> usize {
        self.q.cols / self.heads
    }

    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "causal_attention";
        require(built::TEXT, AT, built::NEEDS_TEXT)?;
        let (rows, width) = (self.out.rows, self.out.cols);
        require(self.kv_heads > 0 && self.heads > 0, AT, "no heads")?;
        require(self.heads.is_multiple_of(self.kv_heads), AT, "key heads do not divide the heads")?;
        require(width.is_multiple_of(self.heads), AT, "heads do not divide the row")?;
        let head_dim = width / self.heads;
        require(head_dim <= MAX_HEAD_DIM, AT, "head too long")?;
        bounds.shaped(AT, &self.lengths, DType::U32, 1, self.lengths.cols)?;
        require(rows.is_multiple_of(self.lengths.cols), AT, "sequences do not divide rows")?;
        bounds.shaped(AT, &self.q, DType::F32, rows, width)?;
        bounds.shaped(AT, &self.k, DType::F32, rows, self.kv_heads * head_dim)?;
        bounds.shaped(AT, &self.v, DType::F32, rows, self.kv_heads * head_dim)?;
        require(self.out.dtype != DType::I8, AT, "int8 output goes through quantize_rows")?;
        bounds.activations(AT, &self.out, &None, &[&self.q, &self.k, &self.v, &self.lengths])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let (head_dim, tokens) = (self.head_dim(), self.out.rows / self.lengths.cols);
        for row in 0..self.out.rows {
            let (first, token) = (row / tokens * tokens, row % tokens);
            let visible = (token + 1).min(mem.index(&self.lengths, 0, row / tokens));
            for head in 0..self.heads {
                let (q, kv) = (head * head_dim, head / (self.heads / self.kv_heads) * head_dim);
                let score = |mem: &Memory<'_>, j: usize| {
                    let products =
                        (0..head_dim).map(|c| mem.load(&self.q, row, q + c) * mem.load(&self.k, first + j, kv + c));
                    products.sum::<f64>() / libm::sqrt(head_dim as f64)
                };
                let max = (0..visible).map(|j| score(mem, j)).fold(f64::NEG_INFINITY, f64::max);
                let mut total = 0.0;
                let mut sums = [0.0; MAX_HEAD_DIM];
                for j in 0..visible {
                    let weight = libm::exp(score(mem, j) - max);
                    total += weight;
                    for (c, sum) in sums[..head_dim].iter_mut().enumerate() {
                        *sum += weight * mem.load(&self.v, first + j, kv + c);
                    }
                }
                for (c, sum) in sums[..head_dim].iter().enumerate() {
                    mem.store(&self.out, row, q + c, if visible == 0 { 0.0 } else { sum / total });
                }
            }
        }
    }
}
