//! On weights as they lie in memory: dot products along the rows of both matrices. For programs that read each weight
//! once for a few rows, where packing would cost as much as the products.

use bytemuck::Pod;

use super::super::matrix::Source;
use super::super::simd::{Element, MAX_LANES, Simd};
use super::epilogue::{Epilogue, Rect, Unscaled};
use super::operands::Operands;
use crate::built;
use crate::ops::Linear;

/// Output columns of a register tile.
const COLS: usize = 4;
/// Output columns of a tile: their weights stay in the second-level cache while the rows of `x` pass.
const TILE_COLS: usize = 32;
/// int8 elements that are multiplied at a time, at most.
const MAX_BYTES: usize = 32;

pub(super) struct Rows<'a> {
    operands: Operands<'a>,
    epilogue: Epilogue<'a>,
    rows: usize,
}

pub(super) fn tiles<'a>(op: &Linear, operands: Operands<'a>, epilogue: Epilogue<'a>) -> (usize, Rows<'a>) {
    (op.out.cols.div_ceil(TILE_COLS), Rows { operands, epilogue, rows: op.out.rows })
}

impl Rows<'_> {
    /// # Safety
    /// Each tile runs once.
    #[cfg_attr(feature = "simd", inline(always))]
    #[cfg_attr(not(feature = "simd"), inline(never))] // not in one frame with panels
    pub(super) unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let first = index * TILE_COLS;
        let end = (first + TILE_COLS).min(self.epilogue.cols);
        // As many rows as the registers hold sums of.
        let rows = if S::LANES > 8 { 6 } else { 2 };
        for row in (0..self.rows).step_by(rows) {
            for col in (first..end).step_by(COLS) {
                let at = Rect { row, rows: rows.min(self.rows - row), col, cols: COLS.min(end - col) };
                // SAFETY: a tile is a range of columns.
                unsafe {
                    if S::LANES > 8 {
                        self.register_tile::<S, 6>(s, at);
                    } else {
                        self.register_tile::<S, 2>(s, at);
                    }
                }
            }
        }
    }

    /// Rows and columns past the end of the place repeat the last one and are dropped.
    ///
    /// # Safety
    /// No other tile touches the place.
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn register_tile<S: Simd, const R: usize>(&self, s: S, at: Rect) {
        let products = match &self.operands {
            Operands::F32(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::WideF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::WideBF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::F16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::BF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::I8 { x, w, x_scale, w_scale } => scaled::<S, R>(s, at, x, w, x_scale.row(0), w_scale.row(0)),
        };
        // SAFETY: the caller promises that no other tile touches the rectangle.
        unsafe { self.epilogue.block(s, at, (products.as_flattened(), &[]), COLS, Unscaled) };
    }
}

/// f32 dot products of `R` rows of `x` with [`COLS`] rows of `w`.
#[cfg_attr(feature = "simd", inline(always))]
fn sums<S: Simd, X: Element, W: Element, const R: usize>(
    s: S,
    at: Rect,
    x: &Source<'_, X>,
    w: &Source<'_, W>,
) -> [[f32; COLS]; R] {
    if !X::ACTIVATIONS || !W::WEIGHTS {
        return [[0.0; COLS]; R];
    }
    let mut vectors = [[s.splat(0.0); COLS]; R];
    let mut walk = Walk::<X, W, R, MAX_LANES>::new(at, x, w, S::LANES);
    while let Some((x, w)) = walk.next() {
        for j in 0..COLS {
            // SAFETY: pointers to LANES elements.
            let w = unsafe { W::load(s, w[j]) };
            for i in 0..R {
                // SAFETY: pointers to LANES elements.
                vectors[i][j] = s.mul_add(unsafe { X::load(s, x[i]) }, w, vectors[i][j]);
            }
        }
    }
    let mut sums = [[0.0; COLS]; R];
    for (sums, vectors) in sums.iter_mut().zip(vectors) {
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = s.sum(vector);
        }
    }
    sums
}

/// int8 dot products, scaled to f32.
#[cfg_attr(feature = "simd", inline(always))]
fn scaled<S: Simd, const R: usize>(
    s: S,
    at: Rect,
    x: &Source<'_, i8>,
    w: &Source<'_, i8>,
    x_scale: &[f32],
    w_scale: &[f32],
) -> [[f32; COLS]; R] {
    if !built::INT8 {
        return [[0.0; COLS]; R];
    }
    let mut sums = [[s.zero_i32(); COLS]; R];
    let mut walk = Walk::<i8, i8, R, MAX_BYTES>::new(at, x, w, S::BYTES);
    while let Some((x, w)) = walk.next() {
        for i in 0..R {
            for j in 0..COLS {
                // SAFETY: pointers to BYTES elements.
                sums[i][j] = unsafe { s.dot_i8(sums[i][j], x[i], w[j]) };
            }
        }
    }
    let mut products = [[0.0; COLS]; R];
    for (i, (products, sums)) in products.iter_mut().zip(sums).enumerate() {
        let x_scale = x_scale[(at.row + i).min(at.row + at.rows - 1)];
        for (j, (product, sum)) in products.iter_mut().zip(sums).enumerate() {
            let w_scale = w_scale[(at.col + j).min(at.col + at.cols - 1)];
            *product = s.sum_i32(sum) as f32 * (x_scale * w_scale);
        }
    }
    products
}

/// Walks `R` rows of `x` and [`COLS`] rows of `w` together, `width` elements at a time, at most `WIDTH`; the last,
/// partial stretch comes from copies that end in zeros.
struct Walk<X, W, const R: usize, const WIDTH: usize> {
    x: [*const X; R],
    w: [*const W; COLS],
    /// Elements that are left.
    left: usize,
    width: usize,
    x_tail: [[X; WIDTH]; R],
    w_tail: [[W; WIDTH]; COLS],
}

impl<X: Pod, W: Pod, const R: usize, const WIDTH: usize> Walk<X, W, R, WIDTH> {
    #[cfg_attr(feature = "simd", inline(always))]
    fn new(at: Rect, x: &Source<'_, X>, w: &Source<'_, W>, width: usize) -> Self {
        let left = w.cols;
        let mut walk = Walk {
            x: [x.row(at.row).as_ptr(); R],
            w: [w.row(at.col).as_ptr(); COLS],
            left,
            width,
            x_tail: [[X::zeroed(); WIDTH]; R],
            w_tail: [[W::zeroed(); WIDTH]; COLS],
        };
        let full = left / width * width;
        for i in 0..R {
            let row = x.row(at.row + i.min(at.rows - 1));
            walk.x[i] = row.as_ptr();
            walk.x_tail[i][..left - full].copy_from_slice(&row[full..left]);
        }
        for j in 0..COLS {
            let row = w.row(at.col + j.min(at.cols - 1));
            walk.w[j] = row.as_ptr();
            walk.w_tail[j][..left - full].copy_from_slice(&row[full..]);
        }
        walk
    }

    /// The next stretch: pointers to `width` elements of each row.
    #[cfg_attr(feature = "simd", inline(always))]
    fn next(&mut self) -> Option<([*const X; R], [*const W; COLS])> {
        if self.left >= self.width {
            let now = (self.x, self.w);
            for x in &mut self.x {
                // SAFETY: at most one past the row's end.
                *x = unsafe { x.add(self.width) };
            }
            for w in &mut self.w {
                // SAFETY: at most one past the row's end.
                *w = unsafe { w.add(self.width) };
            }
            self.left -= self.width;
            return Some(now);
        }
        if self.left == 0 {
            return None;
        }
        self.left = 0;
        let mut now = (self.x, self.w);
        for i in 0..R {
            now.0[i] = self.x_tail[i].as_ptr();
        }
        for j in 0..COLS {
            now.1[j] = self.w_tail[j].as_ptr();
        }
        Some(now)
    }
}
