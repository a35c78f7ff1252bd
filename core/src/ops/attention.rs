use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, TokenLayout, View};

/// `out = softmax(q · kᵀ / √head_dim) · v` within each image, every token to every token, no mask.
///
/// The rows of all four views follow their layout: the image tokens of every image, then the context tokens of every
/// image. Queries and keys have separate layouts, so that an image's queries can also attend to text keys.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// `(query rows, heads · head_dim)` f32, or bf16 if that is the type of `products`.
    pub q: View,
    /// `(key rows, heads · head_dim)` in the type of `q`.
    pub k: View,
    /// `(key rows, heads · head_dim)` in the type of `q`.
    pub v: View,
    /// Number of heads per row.
    pub heads: usize,
    /// Layout of the rows of `q` and `out`.
    pub queries: TokenLayout,
    /// Layout of the rows of `k` and `v`.
    pub keys: TokenLayout,
    /// The type to which a backend may round the factors of both products, softmax weights included: f32, or bf16 if
    /// the next layer is no more exact.
    pub products: DType,
    /// `(query rows, heads · head_dim)`, f32 or a 16-bit type.
    pub out: View,
}

/// The longest head that every twin supports.
pub(crate) const MAX_HEAD_DIM: usize = 128;

impl Attention {
    /// Channels of one head.
    pub const fn head_dim(&self) -> usize {
        self.q.cols / self.heads
    }

    /// Whether queries, keys and values are in a 16-bit type.
    pub const fn is_rounded(&self) -> bool {
        !matches!(self.q.dtype, DType::F32)
    }

    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "attention";
        let width = self.out.cols;
        require(self.heads > 0 && width.is_multiple_of(self.heads), AT, "heads do not divide the row")?;
        require(width / self.heads <= MAX_HEAD_DIM, AT, "head too long")?;
        require(self.queries.images == self.keys.images && self.keys.tokens() > 0, AT, "layouts do not match")?;
        require(self.out.rows == self.queries.rows(), AT, "the layout has another number of rows")?;
        require(matches!(self.products, DType::F32 | DType::BF16), AT, "products of another type")?;
        let dtype = if self.is_rounded() { self.products } else { DType::F32 };
        bounds.shaped(AT, &self.q, dtype, self.queries.rows(), width)?;
        bounds.shaped(AT, &self.k, dtype, self.keys.rows(), width)?;
        bounds.shaped(AT, &self.v, dtype, self.keys.rows(), width)?;
        require(self.out.dtype != DType::I8, AT, "int8 output goes through quantize_rows")?;
        bounds.activations(AT, &self.out, &None, &[&self.q, &self.k, &self.v])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let head_dim = self.head_dim();
        let root = libm::sqrt(head_dim as f64);
        for image in 0..self.queries.images {
            for token in 0..self.queries.tokens() {
                let row = self.queries.row_of(image, token);
                for head in 0..self.heads {
                    let first = head * head_dim;
                    let score = |mem: &Memory<'_>, key: usize| {
                        let key = self.keys.row_of(image, key);
                        (first..first + head_dim)
                            .map(|c| mem.load(&self.q, row, c) * mem.load(&self.k, key, c))
                            .sum::<f64>()
                            / root
                    };
                    let max = (0..self.keys.tokens()).map(|key| score(mem, key)).fold(f64::NEG_INFINITY, f64::max);
                    let mut total = 0.0;
                    let mut sums = [0.0; MAX_HEAD_DIM];
                    for key in 0..self.keys.tokens() {
                        let weight = libm::exp(score(mem, key) - max);
                        total += weight;
                        for (c, sum) in sums[..head_dim].iter_mut().enumerate() {
                            *sum += weight * mem.load(&self.v, self.keys.row_of(image, key), first + c);
                        }
                    }
                    for (c, sum) in sums[..head_dim].iter().enumerate() {
                        mem.store(&self.out, row, first + c, sum / total);
                    }
                }
            }
        }
    }
}
