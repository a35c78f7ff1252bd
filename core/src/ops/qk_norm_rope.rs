use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// On the queries and keys of `qkv`, in place or to `out`: RMSNorm of each head, then a rotation of its channel pairs.
///
/// A pair `(a, b)` of a rotated row `r` becomes `(a·cos − b·sin, b·cos + a·sin)`; pair `k`'s cosine and sine are at
/// columns `2k, 2k + 1` of row `r mod table.rows` of the table.
#[derive(Clone, Copy, Debug)]
pub struct QkNormRope {
    /// `(rows, ..)` f32: `heads` query heads, then `kv_heads` key heads, then the values, which stay unchanged.
    pub qkv: View,
    /// `(rows, (heads + 2 · kv_heads) · head_dim)` bf16: queries, keys and values; `qkv` then stays as it is.
    pub out: Option<View>,
    /// `(1, head_dim)` f32.
    pub q_weight: View,
    /// `(1, head_dim)` f32.
    pub k_weight: View,
    /// Added under the square root.
    pub eps: f32,
    /// Number of query heads; 0 if `qkv` holds only keys and values.
    pub heads: usize,
    /// Number of key heads.
    pub kv_heads: usize,
    /// The rotation; `None` for no rotation.
    pub rope: Option<Rope>,
}

/// A rotary position embedding.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// `(tokens, head_dim)` f32: cosine and sine of pair after pair.
    pub table: View,
    /// Rows below this are rotated; the others (context tokens) are only normalised.
    pub rows: usize,
    /// The pairing of channels.
    pub pairs: RopePairs,
}

/// The channels of a head that form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `2k` and `2k + 1`: the image networks.
    Adjacent,
    /// `k` and `k + head_dim / 2`: Qwen3.
    Halves,
}

impl RopePairs {
    /// The channels of pair `k`.
    pub const fn channels(self, k: usize, head_dim: usize) -> (usize, usize) {
        match self {
            RopePairs::Adjacent => (2 * k, 2 * k + 1),
            RopePairs::Halves => (k, k + head_dim / 2),
        }
    }
}

impl QkNormRope {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "qk_norm_rope";
        let head_dim = self.q_weight.cols;
        let width = self.heads.saturating_add(self.kv_heads).saturating_mul(head_dim);
        require(head_dim.is_multiple_of(2) && width <= self.qkv.cols, AT, "wrong shape")?;
        bounds.shaped(AT, &self.q_weight, DType::F32, 1, head_dim)?;
        bounds.shaped(AT, &self.k_weight, DType::F32, 1, head_dim)?;
        bounds.output(AT, &self.qkv, &[&self.q_weight, &self.k_weight])?;
        require(self.qkv.dtype == DType::F32, AT, "wrong element type")?;
        if let Some(out) = &self.out {
            let width = width.saturating_add(self.kv_heads.saturating_mul(head_dim));
            require(width == self.qkv.cols, AT, "wrong shape")?;
            bounds.shaped(AT, out, DType::BF16, self.qkv.rows, width)?;
            bounds.output(AT, out, &[&self.q_weight, &self.k_weight, &self.qkv])?;
        }
        let Some(rope) = &self.rope else { return Ok(()) };
        bounds.shaped(AT, &rope.table, DType::F32, rope.table.rows, head_dim)?;
        require(rope.rows <= self.qkv.rows, AT, "more rotated rows than rows")?;
        bounds.output(AT, self.out.as_ref().unwrap_or(&self.qkv), &[&rope.table])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let (head_dim, to) = (self.q_weight.cols, self.out.unwrap_or(self.qkv));
        for r in 0..self.qkv.rows {
            for c in (self.heads + self.kv_heads) * head_dim..self.out.map_or(0, |out| out.cols) {
                let value = mem.load(&self.qkv, r, c);
                mem.store(&to, r, c, value);
            }
            let rope = self.rope.filter(|rope| r < rope.rows);
            for head in 0..self.heads + self.kv_heads {
                let weight = if head < self.heads { &self.q_weight } else { &self.k_weight };
                let x = self.qkv.cols_from(head * head_dim, head_dim);
                let y = to.cols_from(head * head_dim, head_dim);
                let mean = (0..head_dim).map(|c| mem.load(&x, r, c)).map(|x| x * x).sum::<f64>() / head_dim as f64;
                let root = libm::sqrt(mean + f64::from(self.eps));
                let pairs = rope.map_or(RopePairs::Adjacent, |rope| rope.pairs);
                for pair in 0..head_dim / 2 {
                    let (first, second) = pairs.channels(pair, head_dim);
                    let a = mem.load(&x, r, first) / root * mem.load(weight, 0, first);
                    let b = mem.load(&x, r, second) / root * mem.load(weight, 0, second);
                    let wave = |i: usize| rope.map(|rope| mem.load(&rope.table, r % rope.table.rows, 2 * pair + i));
                    let (cos, sin) = (wave(0).unwrap_or(1.0), wave(1).unwrap_or(0.0));
                    mem.store(&y, r, first, a * cos - b * sin);
                    mem.store(&y, r, second, b * cos + a * sin);
                }
            }
        }
    }
}
