//! int8 activations, rewritten once for all panels.

use super::super::matrix::Source;
use super::super::memory::Arena;
use super::super::shape::Shape;
use super::super::simd::Simd;
use super::super::tiles::Tiles;
use crate::DType;
use crate::ops::Linear;

/// Rows of a tile.
const TILE_ROWS: usize = 16;

/// Rows of int8 as products take them ([`Simd::rewrite_i8`]), in the backend's scratch memory.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Rewritten<'a> {
    x: Source<'a, i8>,
    rows: usize,
    pub(super) first: *mut u8,
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Bytes from a row's first part to its second.
    pub(super) part: usize,
}

// SAFETY: plain bytes; each tile writes rows of its own, and nobody reads them meanwhile.
unsafe impl Send for Rewritten<'_> {}
// SAFETY: the same.
unsafe impl Sync for Rewritten<'_> {}

impl<'a> Rewritten<'a> {
    /// `None` where products take rows as they are, or where there is no room.
    ///
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(op: &Linear, memory: &Arena<'a>) -> Option<Rewritten<'a>> {
        let shape = memory.shape();
        if op.x.dtype != DType::I8 || shape.i8_parts == 0 || op.x.rows == 0 || op.x.cols == 0 {
            return None;
        }
        let (first, _) = memory.scratch(shape.rewritten_bytes(op.x.rows, op.x.cols)?)?;
        let (stride, part) = shape.rewritten_row(op.x.cols)?;
        // SAFETY: the caller checked the descriptor.
        Some(Rewritten { x: unsafe { memory.source(&op.x) }, rows: op.x.rows, first, stride, part })
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }
}

impl Tiles for Rewritten<'_> {
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let first = index * TILE_ROWS;
        for r in first..(first + TILE_ROWS).min(self.rows) {
            let row = self.x.row(r);
            // SAFETY: the scratch has such a row for each of `x`, and this tile is the only one to write it.
            unsafe { s.rewrite_i8(row.as_ptr().cast(), row.len(), self.first.add(r * self.stride), self.part) };
        }
    }
}

impl Shape {
    /// Bytes from one rewritten row of `k` elements to the next, and from its first part to its second.
    fn rewritten_row(self, k: usize) -> Option<(usize, usize)> {
        /// Rows a whole number of these apart would compete for a few sets of the cache.
        const PAGE: usize = 4096;
        let part = k.checked_next_multiple_of(LINE)?;
        let stride = part.checked_mul(self.i8_parts)?;
        let conflicts = stride > 0 && stride.is_multiple_of(PAGE);
        Some((if conflicts { stride.checked_add(LINE)? } else { stride }, part))
    }

    /// Bytes for rewritten rows; 0 where products take rows as they are, `None` beyond the address space.
    pub(in crate::cpu) fn rewritten_bytes(self, rows: usize, k: usize) -> Option<usize> {
        self.rewritten_row(k)?.0.checked_mul(rows)
    }
}

/// Bytes of a cache line, which vectors are at most as long as.
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use crate::cpu::Isa;

    #[test]
    fn rows_that_products_take_as_they_are_need_no_memory() {
        let attention = Isa::SCALAR.scratch_bytes(64, [0, 0], 1);
        assert_eq!(Isa::SCALAR.scratch_bytes(64, [1 << 20, 4096], 1), attention);
        for isa in Isa::available() {
            assert_eq!(isa.scratch_bytes(64, [1 << 20, 0], 1), isa.scratch_bytes(64, [0, 0], 1), "{}", isa.name());
        }
    }
}
