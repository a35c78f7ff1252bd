//! On packed panels: a block of rows times a panel, all of `k` at once, sums in registers or tiles.

use super::super::memory::{Arena, Source};
use super::super::pack::PackedWeight;
use super::super::simd::Simd;
use super::super::simd::product::{Block, MAX_PANEL, MAX_ROWS, Sums};
use super::Operands;
use super::centre::{Centres, Panel, Products};
use super::finish::{Centred, Finish, Place, Scaled, Unscaled};
use crate::ops::Linear;

pub(super) struct Panels<'a> {
    operands: Operands<'a>,
    weight: PackedWeight<'a>,
    centres: Option<Centres<'a>>,
    finish: Finish<'a>,
    rows: usize,
    k: usize,
    /// Rows of a tile: a multiple of every block size, or all.
    tile_rows: usize,
    /// Tiles that the rows are cut into.
    row_tiles: usize,
    threads: usize,
}

/// Tiles that each thread should have, so that none waits long for another at the end.
const TILES_PER_THREAD: usize = 6;
/// Rows of a tile are a multiple of this: whole blocks of every instruction set.
const ROW_STEP: usize = 96;

/// # Safety
/// The descriptor was checked.
pub(super) unsafe fn tiles<'a>(
    op: &Linear,
    memory: &Arena<'a>,
    weight: PackedWeight<'a>,
    operands: Operands<'a>,
    centres: Option<Centres<'a>>,
    finish: Finish<'a>,
) -> (usize, Panels<'a>) {
    let (rows, k) = (op.out.rows, op.x.cols);
    let panels = op.out.cols.div_ceil(weight.panel);
    let wanted = (memory.threads() * TILES_PER_THREAD).div_ceil(panels.max(1));
    let tile_rows = rows.div_ceil(wanted).next_multiple_of(ROW_STEP).min(rows.max(1));
    let row_tiles = rows.div_ceil(tile_rows);
    let threads = memory.threads();
    (panels * row_tiles, Panels { operands, weight, centres, finish, rows, k, tile_rows, row_tiles, threads })
}

impl Panels<'_> {
    /// # Safety
    /// Each tile runs once.
    #[inline(always)]
    pub(super) unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let (panel, first) = (index / self.row_tiles, index % self.row_tiles * self.tile_rows);
        let end = (first + self.tile_rows).min(self.rows);
        let col = panel * S::PANEL;
        let cols = S::PANEL.min(self.finish.out.cols - col);
        let step = match self.operands {
            Operands::BF16(..) | Operands::I8 { .. } => S::DENSE_ROWS,
            _ => S::ROWS,
        };
        let mut sums = Sums([0.0; MAX_ROWS * MAX_PANEL]);
        let mut products = Products::new(S::PANEL);
        if let (Some(centres), Operands::I8 { w_scale, .. }) = (&self.centres, self.operands) {
            let panel = Panel { weight: &self.weight, panel, k: self.k, scale: &w_scale.row(0)[col..col + cols] };
            // SAFETY: int8 weights, as for the blocks.
            unsafe { centres.write(s, panel, &mut sums, &mut products) };
        }
        let mut ahead = self.ahead(index, (end - first).div_ceil(step));
        for row in (first..end).step_by(step) {
            let rows = step.min(end - row);
            if row == first || rows < step {
                s.begin_blocks(rows);
            }
            let next = ahead.stretch();
            let at = Place { row, rows, col, cols };
            self.finish.fetch(s, at);
            // SAFETY: a tile is some rows of a panel's columns.
            unsafe {
                self.block(s, row, rows, panel, next, &mut sums);
                self.finish(s, at, panel, &sums, &products);
            }
        }
        s.end_blocks();
    }

    /// What this thread will probably read next: the panel of the tile after those that the others take meanwhile.
    #[inline(always)]
    fn ahead(&self, index: usize, blocks: usize) -> Ahead<'_> {
        let next = (index + self.threads) / self.row_tiles;
        let bytes = if next == index / self.row_tiles { None } else { self.panel_bytes(next) };
        let bytes = bytes.unwrap_or_default();
        Ahead { bytes, step: bytes.len().div_ceil(blocks).next_multiple_of(LINE) }
    }

    #[inline(always)]
    fn panel_bytes(&self, panel: usize) -> Option<&[u8]> {
        self.weight.bytes.get(panel * self.weight.panel_bytes..)?.get(..self.weight.panel_bytes)
    }

    /// # Safety
    /// `rows` is what the block of this kind takes.
    #[inline(always)]
    unsafe fn block<S: Simd>(&self, s: S, row: usize, rows: usize, panel: usize, next: &[u8], sums: &mut Sums) {
        let (x, stride) = match &self.operands {
            Operands::F32(x, _) | Operands::WideF16(x, _) | Operands::WideBF16(x, _) => at(x, row),
            Operands::F16(x, _) => at(x, row),
            Operands::BF16(x, _) => at(x, row),
            Operands::I8 { x, .. } => at(x, row),
        };
        let w = self.weight.bytes[panel * self.weight.panel_bytes..][..self.weight.panel_bytes].as_ptr();
        let b = &mut Block { x, stride, rows, k: self.k, w, sums, next };
        // SAFETY: the rows are inside the view, which was checked; the panel was packed for this instruction set.
        unsafe {
            match self.operands {
                Operands::F32(..) => s.block_f32(b),
                Operands::WideF16(..) => s.block_wide_f16(b),
                Operands::WideBF16(..) => s.block_wide_bf16(b),
                Operands::F16(..) => s.block_f16(b),
                Operands::BF16(..) => s.block_bf16(b),
                Operands::I8 { .. } => s.block_i8(b),
            }
        }
    }

    /// # Safety
    /// No other tile touches the place.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Place, panel: usize, sums: &Sums, products: &Products) {
        let sums = &sums.0[..at.rows * S::PANEL];
        let Operands::I8 { x_scale, w_scale, .. } = &self.operands else {
            // SAFETY: passed on.
            return unsafe { self.finish.block(s, at, sums, S::PANEL, Unscaled) };
        };
        let scale = Scaled {
            excess: if S::UNSIGNED { self.weight.excess(panel) } else { &[0; MAX_PANEL] },
            x: &x_scale.row(0)[at.row..at.row + at.rows],
            w: &w_scale.row(0)[at.col..at.col + at.cols],
        };
        // SAFETY: passed on.
        unsafe {
            match &self.centres {
                Some(centres) => {
                    let mut beside: [&[f32]; MAX_ROWS] = [&[]; MAX_ROWS];
                    for (i, beside) in beside.iter_mut().enumerate().take(at.rows) {
                        *beside = products.of_image(centres.layout.image_of(at.row + i));
                    }
                    self.finish.block(s, at, sums, S::PANEL, Centred { left: scale, beside: &beside });
                }
                None => self.finish.block(s, at, sums, S::PANEL, scale),
            }
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// The rest of a panel that is brought into the second-level cache a stretch per block, while blocks are computed:
/// weights come from memory, and waiting for them would cost more than the products.
struct Ahead<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    fn stretch(&mut self) -> &'a [u8] {
        let (now, later) = self.bytes.split_at(self.step.min(self.bytes.len()));
        self.bytes = later;
        now
    }
}

/// Where row `row` starts, and the bytes from a row to the next.
#[inline(always)]
fn at<T: bytemuck::Pod>(x: &Source<'_, T>, row: usize) -> (*const u8, usize) {
    (x.row(row).as_ptr().cast(), x.stride * size_of::<T>())
}
