use super::SharedMean;
use super::memory::{Bounds, InvalidOp, Memory, require};
use super::swiglu::{ROTATION, rotated};
use crate::{DType, View};

/// Symmetric int8 per row: `scale = max|x| / 127`, `q = round_ties_even(x · (127 / max|x|))`, both in f32 so that every
/// twin agrees to the bit. Where `127 / max|x|` overflows (below 4e-37, and in a row of zeros) every `q` is 0. A
/// row with a NaN or an infinity has a NaN for its scale, and any `q`. If a shared mean is requested, it is subtracted from `x` first.
#[derive(Clone, Copy, Debug)]
pub struct QuantizeRows {
    /// `(rows, cols)` f32 or bf16, in the arena if it is rotated.
    pub x: View,
    /// `(rows, cols)` int8.
    pub out: View,
    /// `(1, rows)` f32.
    pub out_scale: View,
    /// The output for the shared mean, if it is to be subtracted.
    pub shared_mean: Option<SharedMean>,
    /// Whether each row is first rotated by [`rotate`](super::rotate). `x` may then be overwritten with values yet to be
    /// quantised. Not allowed with a shared mean.
    pub rotated: bool,
}

impl QuantizeRows {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "quantize_rows";
        require(self.out.dtype == DType::I8, AT, "wrong element type")?;
        let dtype = if self.x.dtype == DType::BF16 { DType::BF16 } else { DType::F32 };
        bounds.shaped(AT, &self.x, dtype, self.out.rows, self.out.cols)?;
        let out_scale = Some(self.out_scale);
        bounds.activations(AT, &self.out, &out_scale, &[&self.x])?;
        if self.rotated {
            bounds.output(AT, &self.x, &[])?;
            require(self.shared_mean.is_none(), AT, "what is rotated has no shared mean")?;
        }
        let outputs = (&self.out, &out_scale);
        self.shared_mean
            .as_ref()
            .map_or(Ok(()), |shared_mean| shared_mean.check_output(AT, bounds, outputs, &[&self.x]))
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        if let Some(shared_mean) = &self.shared_mean {
            shared_mean.reference(mem, |mem, r, c| mem.load(&self.x, r, c));
        }
        let n = if self.rotated { self.x.cols / ROTATION } else { 0 };
        for r in 0..self.x.rows {
            mem.store_row(&self.out, Some(&self.out_scale), r, |mem, c| {
                let shared_mean = self
                    .shared_mean
                    .map_or(0.0, |shared_mean| mem.load(&shared_mean.value, shared_mean.layout.image_of(r), c));
                if c < n * ROTATION {
                    rotated(&core::array::from_fn(|j| mem.load(&self.x, r, j * n + c % n)), c / n)
                } else {
                    mem.load(&self.x, r, c) - shared_mean
                }
            });
        }
    }
}
