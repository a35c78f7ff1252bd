use super::simd::block::CHUNK;
use crate::{DType, Weight};

/// How an instruction set wants panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) panel: usize,
    /// Bytes of a column of int8 weights that lie side by side.
    pub(super) i8_group: usize,
    /// Whether int8 panels end with sums of their columns.
    pub(super) sums: bool,
    /// [`Simd::I8_PARTS`](super::simd::Simd::I8_PARTS).
    pub(super) i8_parts: usize,
    /// Rows of a block, and of one of int8 or bf16 products.
    pub(super) block_rows: [usize; 2],
}

impl Shape {
    pub(super) fn block_rows(self, dense: bool) -> usize {
        self.block_rows[usize::from(dense)]
    }

    pub(super) fn tag(self) -> u64 {
        (self.panel as u64) << 16 | (self.i8_group as u64) << 8 | u64::from(self.sums)
    }

    pub(super) fn panel_bytes(self, weight: &Weight) -> Option<usize> {
        let column = weight.data.cols.checked_mul(weight.data.dtype.size())?.checked_next_multiple_of(CHUNK)?;
        let sums = if self.sums && weight.data.dtype == DType::I8 { size_of::<i32>() } else { 0 };
        column.checked_add(sums)?.checked_mul(self.panel)?.checked_add(self.residual_bytes(weight)?)
    }

    pub(super) fn residual_bytes(self, weight: &Weight) -> Option<usize> {
        weight.residual().map_or(Some(0), |rest| rest.cols.checked_mul(self.panel))
    }

    pub(super) fn bytes(self, weight: &Weight) -> Option<usize> {
        self.panel_bytes(weight)?.checked_mul(weight.data.rows.div_ceil(self.panel))
    }
}
