//! On panels: a block of rows times a panel, sums in registers or tiles. A packed panel is multiplied by all of `k` at
//! once. Where weights are not packed, a slice of a panel is packed for as many blocks as there is room for sums, which
//! the next slice then adds to.

use super::super::matrix::Source;
use super::super::memory::Arena;
use super::super::simd::Simd;
use super::super::simd::block::{Block, Row, RowArray};
use super::epilogue::{Epilogue, Rect, Scale, Scaled, Unscaled, WithMean, in_place};
use super::operands::{Matrix, Operands};
use super::rewrite::Rewritten;
use super::shared_mean::{Panel, Products};
use super::slices::{Slice, Weights};
use crate::built;
use crate::ops::Linear;

pub(super) struct Panels<'a> {
    /// The gate, where there is one, and what it gates.
    sides: [Option<(Matrix<'a>, Weights<'a>)>; 2],
    epilogue: Epilogue<'a>,
    rows: usize,
    k: usize,
    /// Rows of a tile: a multiple of every block size, or all.
    tile_rows: usize,
    /// Tiles that the rows are cut into.
    row_tiles: usize,
    threads: usize,
    /// Rows of int8 that were rewritten before.
    pub(super) rewritten: Option<Rewritten<'a>>,
}

/// Tiles that each thread should have, so that none waits long for another at the end.
const TILES_PER_THREAD: usize = 6;
/// Rows of a tile at least, unless they are all: each tile reads its panel once more.
const TILE_ROWS: usize = 24;

/// # Safety
/// The descriptor was checked.
pub(super) unsafe fn tiles<'a>(
    op: &Linear,
    memory: &Arena<'a>,
    value: (Matrix<'a>, Weights<'a>),
    gate: Option<(Matrix<'a>, Weights<'a>)>,
    epilogue: Epilogue<'a>,
) -> (usize, Panels<'a>) {
    let (rows, k) = (op.out.rows, op.x.cols);
    let panels = op.out.cols.div_ceil(memory.shape().panel);
    let wanted = (memory.threads() * TILES_PER_THREAD).div_ceil(panels.max(1));
    let step = TILE_ROWS.next_multiple_of(memory.shape().block_rows(value.0.operands.is_dense()));
    let tile_rows = rows.div_ceil(wanted).next_multiple_of(step).min(rows.max(1));
    let row_tiles = rows.div_ceil(tile_rows);
    let sides = [gate, Some(value)];
    let threads = memory.threads();
    // SAFETY: the caller checked the descriptor.
    let rewritten = unsafe { Rewritten::new(op, memory) };
    (panels * row_tiles, Panels { sides, epilogue, rows, k, tile_rows, row_tiles, threads, rewritten })
}

impl Panels<'_> {
    /// # Safety
    /// Each tile runs once.
    #[inline(always)]
    pub(super) unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let (panel, first) = (index / self.row_tiles, index % self.row_tiles * self.tile_rows);
        let end = (first + self.tile_rows).min(self.rows);
        let col = panel * S::PANEL;
        let cols = S::PANEL.min(self.epilogue.cols - col);
        let block = match &self.sides[1] {
            Some((value, _)) if value.operands.is_dense() => S::DENSE_ROWS,
            _ => S::ROWS,
        };
        // As many blocks as there is room for sums: what is not packed is packed once for all, and the epilogue's short
        // rows cost less together.
        let step = S::Sums::COUNT / block * block;
        let mut sums = [S::Sums::new(); 2];
        let mut products = [Products::new(), Products::new()];
        let mut slice = Slice::new();
        let mut ahead = [self.ahead(0, index, end - first, step), self.ahead(1, index, end - first, step)];
        for row in (first..end).step_by(step) {
            let rows = step.min(end - row);
            if row == first || rows < step {
                s.begin_blocks(rows);
            }
            let at = Rect { row, rows, col, cols };
            for (i, side) in self.sides.iter().enumerate() {
                let Some((matrix, weight)) = side else { continue };
                let next = ahead[i].stretch();
                // SAFETY: a tile is some rows of a panel's columns.
                unsafe {
                    self.blocks(s, (matrix, weight), (at, block), panel, next, (&mut slice, &mut sums[i]));
                    let [gate, value] = &mut sums;
                    let (gate, value) = (S::Panel::flattened(gate.rows()), S::Panel::flattened(value.rows()));
                    let sink: Sink<'_> = match i {
                        0 => Sink::Gate(matrix.bias.as_ref().map(|bias| &bias.row(0)[col..col + cols]), gate),
                        _ => Sink::Out(&self.epilogue, (value, gate)),
                    };
                    write_block(s, matrix, (weight, panel, self.k), at, (&mut products[i], &mut slice), sink);
                }
            }
        }
        s.end_blocks();
    }

    /// What this thread will probably read next: the panel of the tile after those that the others take meanwhile.
    #[inline(always)]
    fn ahead(&self, side: usize, index: usize, rows: usize, step: usize) -> Ahead<'_> {
        let next = (index + self.threads) / self.row_tiles;
        let bytes = match &self.sides[side] {
            Some((_, Weights::Packed(weight))) if next != index / self.row_tiles => weight.panel_bytes(next),
            _ => &[],
        };
        Ahead { bytes, step: bytes.len().div_ceil(rows.div_ceil(step)).next_multiple_of(LINE) }
    }

    /// Writes the sums of some rows, `block` of them at a time.
    ///
    /// # Safety
    /// `block` is what the block of this kind takes, and a whole number of them fits the sums.
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn blocks<S: Simd>(
        &self,
        s: S,
        (matrix, weight): (&Matrix<'_>, &Weights<'_>),
        (to, block): (Rect, usize),
        panel: usize,
        next: &[u8],
        (slice, sums): (&mut Slice<S>, &mut S::Sums),
    ) {
        let (x, stride) = match (&self.rewritten, &matrix.operands) {
            (Some(rows), _) => (rows.first.wrapping_add(to.row * rows.stride).cast_const(), rows.stride),
            (_, Operands::F32(x, _) | Operands::WideF16(x, _) | Operands::WideBF16(x, _)) => at(x, to.row),
            (_, Operands::F16(x, _)) => at(x, to.row),
            (_, Operands::BF16(x, _)) => at(x, to.row),
            (_, Operands::I8 { x, .. }) => at(x, to.row),
        };
        let part = self.rewritten.map(|rows| rows.part);
        let (x_size, w_size) = matrix.operands.sizes();
        let mut next = Ahead { bytes: next, step: next.len().div_ceil(to.rows.div_ceil(block)) };
        let mut done = 0;
        loop {
            let (w, k) = weight.from(s, panel, done..self.k, w_size, slice);
            for first in (0..to.rows).step_by(block) {
                let (rows, next) = (block.min(to.rows - first), next.stretch());
                self.epilogue.fetch(s, Rect { row: to.row + first, rows, ..to });
                // SAFETY: rows of the view, which was checked, from an element on that they have; the sums' own rows.
                let (x, sums) =
                    unsafe { (x.add(first * stride + done * x_size), sums.rows().as_mut_ptr().add(first).cast()) };
                let b = &mut Block { x, stride, part, rows, k, w, sums, add: done > 0, next };
                // SAFETY: the caller promises that no other tile touches the rectangle.
                unsafe {
                    match matrix.operands {
                        Operands::F32(..) => s.block_f32(b),
                        Operands::WideF16(..) => s.block_wide_f16(b),
                        Operands::WideBF16(..) => s.block_wide_bf16(b),
                        Operands::F16(..) => s.block_f16(b),
                        Operands::BF16(..) => s.block_bf16(b),
                        Operands::I8 { .. } => s.block_i8(b),
                    }
                }
            }
            done += k;
            if done >= self.k {
                return;
            }
        }
    }
}

/// Where a block's sums go.
enum Sink<'a> {
    /// Nowhere: they become a gate, with its bias.
    Gate(Option<&'a [f32]>, &'a mut [f32]),
    /// To the output, with the gate beside them where there is one.
    Out(&'a Epilogue<'a>, (&'a mut [f32], &'a [f32])),
}

impl Sink<'_> {
    /// Takes some rows of a block.
    ///
    /// # Safety
    /// No other tile touches the place.
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn take<S: Simd, F: Scale<S>>(&mut self, s: S, block: Rect, part: Rect, scale: F) {
        let rows = (part.row - block.row) * S::PANEL..(part.row - block.row + part.rows) * S::PANEL;
        match self {
            Sink::Gate(bias, sums) => in_place(s, part, &mut sums[rows], S::PANEL, scale, *bias),
            // SAFETY: the caller promises that no other tile touches the rectangle.
            Sink::Out(epilogue, (sums, gate)) => unsafe {
                if built::SMALL && F::SCALES {
                    in_place(s, part, &mut sums[rows.clone()], S::PANEL, scale, None);
                    epilogue.block(s, part, (&sums[rows.clone()], &gate[rows]), S::PANEL, Unscaled);
                } else {
                    epilogue.block(s, part, (&sums[rows.clone()], &gate[rows]), S::PANEL, scale);
                }
            },
        }
    }
}

/// # Safety
/// No other tile touches the place.
#[cfg_attr(feature = "simd", inline(always))]
unsafe fn write_block<S: Simd>(
    s: S,
    matrix: &Matrix<'_>,
    (weight, panel, k): (&Weights<'_>, usize, usize),
    at: Rect,
    (products, slice): (&mut Products<S>, &mut Slice<S>),
    mut sink: Sink<'_>,
) {
    let (x_scale, w_scale) = match &matrix.operands {
        Operands::I8 { x_scale, w_scale, .. } if built::INT8 => (x_scale, w_scale),
        // SAFETY: the caller promises that no other tile touches the rectangle.
        _ => return unsafe { sink.take(s, at, at, Unscaled) },
    };
    let excess = weight.excess::<S>(panel, slice);
    let scale = Scaled {
        excess: excess.as_ref(),
        x: &x_scale.row(0)[at.row..at.row + at.rows],
        w: &w_scale.row(0)[at.col..at.col + at.cols],
    };
    let Some(shared_means) = &matrix.shared_means else {
        // SAFETY: the caller promises that no other tile touches the rectangle.
        return unsafe { sink.take(s, at, at, scale) };
    };
    // The rows of one image after another.
    let mut row = at.row;
    while row < at.row + at.rows {
        let (image, rows) = shared_means.layout.run_from(row);
        let part = Rect { row, rows: rows.min(at.row + at.rows - row), ..at };
        let x = &scale.x[row - at.row..][..part.rows];
        let (addend, cached) = products.of_image(image);
        if !cached {
            // SAFETY: the panel that the block was multiplied with.
            unsafe { shared_means.write(s, image, Panel { weight, panel, k, scale: scale.w }, slice, addend) };
            s.begin_blocks(at.rows);
        }
        // SAFETY: the caller promises that no other tile touches the rectangle.
        unsafe {
            sink.take(s, at, part, WithMean { left: Scaled { x, ..scale }, addend });
        }
        row += part.rows;
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
    (x.pointer(row, 0).cast(), x.stride.saturating_mul(size_of::<T>()))
}
