use half::f16;

use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::built;
use crate::{DType, View};

/// Elements of a Q8_0 block.
pub const BLOCK: usize = 32;
/// Bytes of a Q8_0 block: an f16 scale, then one int8 for each element.
pub const BLOCK_BYTES: usize = 2 + BLOCK;

/// `out = scale · q` for ggml's Q8_0 blocks, exact in f32: prepares some rows of a weight matrix for a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct DequantizeBlocks {
    /// `(rows, cols / 32 · 34)` bytes as int8: in each block of 34 a little-endian f16 scale, then 32 int8.
    pub x: View,
    /// `(rows, cols)` f32, `cols` a multiple of 32.
    pub out: View,
}

impl DequantizeBlocks {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "dequantize_blocks";
        require(built::TEXT, AT, built::NEEDS_TEXT)?;
        require(self.out.cols.is_multiple_of(BLOCK), AT, "a row is no whole number of blocks")?;
        let bytes = (self.out.cols / BLOCK).saturating_mul(BLOCK_BYTES);
        bounds.shaped(AT, &self.x, DType::I8, self.out.rows, bytes)?;
        bounds.output(AT, &self.out, &[&self.x])?;
        require(self.out.dtype == DType::F32, AT, "wrong element type")
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            for c in 0..self.out.cols {
                let first = c / BLOCK * BLOCK_BYTES;
                let byte = |i: usize| mem.load(&self.x, r, first + i) as i8 as u8;
                let scale = f16::from_le_bytes([byte(0), byte(1)]).to_f64();
                let value = scale * mem.load(&self.x, r, first + 2 + c % BLOCK);
                mem.store(&self.out, r, c, value);
            }
        }
    }
}
