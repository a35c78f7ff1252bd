//! Linear layers on weights as they lie in the file: dot products along the rows of both matrices.

use half::{bf16, f16};

use super::Tiles;
use super::memory::{Arena, ModulationSource, Source, Target};
use super::simd::{Element, MAX_LANES, Simd};
use crate::ops::{Epilogue, Linear};
use crate::{DType, TokenLayout};

/// Output columns of a register tile.
const COLS: usize = 4;
/// Output rows of a register tile at most; [`Simd::TILE_ROWS`] says how many an instruction set uses.
const ROWS: usize = 6;
/// Output columns of a tile: their weights stay in the second-level cache while the rows of `x` pass.
const TILE_COLS: usize = 32;
/// Bytes of the widest vector of any operand.
const MAX_BYTES: usize = 64;

pub(super) struct Kernel<'a> {
    operands: Operands<'a>,
    bias: Option<Source<'a, f32>>,
    epilogue: Finish<'a>,
    out: Target<'a, f32>,
    tile_rows: usize,
}

#[derive(Clone, Copy)]
enum Operands<'a> {
    F32(Source<'a, f32>, Source<'a, f32>),
    WideF16(Source<'a, f32>, Source<'a, f16>),
    WideBF16(Source<'a, f32>, Source<'a, bf16>),
    F16(Source<'a, f16>, Source<'a, f16>),
    BF16(Source<'a, bf16>, Source<'a, bf16>),
    I8 { x: Source<'a, i8>, w: Source<'a, i8>, x_scale: Source<'a, f32>, w_scale: Source<'a, f32> },
}

enum Finish<'a> {
    Store,
    Silu,
    Residual,
    AddPeriodic(Source<'a, f32>),
    GatedResidual { modulation: ModulationSource<'a>, gate: usize, layout: TokenLayout },
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Linear, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on; element types are as the descriptor's check found them.
    let kernel = unsafe {
        let operands = match (op.x.dtype, op.w.data.dtype, op.x_scale, op.w.scale) {
            (DType::I8, _, Some(x_scale), Some(w_scale)) => Operands::I8 {
                x: memory.source(&op.x),
                w: memory.source(&op.w.data),
                x_scale: memory.source(&x_scale),
                w_scale: memory.source(&w_scale),
            },
            (DType::F32, DType::F16, ..) => Operands::WideF16(memory.source(&op.x), memory.source(&op.w.data)),
            (DType::F32, DType::BF16, ..) => Operands::WideBF16(memory.source(&op.x), memory.source(&op.w.data)),
            (DType::F16, ..) => Operands::F16(memory.source(&op.x), memory.source(&op.w.data)),
            (DType::BF16, ..) => Operands::BF16(memory.source(&op.x), memory.source(&op.w.data)),
            _ => Operands::F32(memory.source(&op.x), memory.source(&op.w.data)),
        };
        let epilogue = match &op.epilogue {
            Epilogue::Store => Finish::Store,
            Epilogue::Silu => Finish::Silu,
            Epilogue::Residual => Finish::Residual,
            Epilogue::AddPeriodic(table) => Finish::AddPeriodic(memory.source(table)),
            Epilogue::GatedResidual { modulation, gate, layout } => {
                Finish::GatedResidual { modulation: memory.modulation(modulation), gate: *gate, layout: *layout }
            }
        };
        let bias = op.bias.as_ref().map(|bias| memory.source(bias));
        Kernel { operands, bias, epilogue, out: memory.target(&op.out), tile_rows: op.out.rows }
    };
    (op.out.cols.div_ceil(TILE_COLS), kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let first = index * TILE_COLS;
        let end = (first + TILE_COLS).min(self.out.cols);
        for row in (0..self.tile_rows).step_by(S::TILE_ROWS) {
            for col in (first..end).step_by(COLS) {
                let at = At { row, rows: S::TILE_ROWS.min(self.tile_rows - row), col, cols: COLS.min(end - col) };
                if S::TILE_ROWS == 6 {
                    self.register_tile::<S, 6>(s, at);
                } else {
                    self.register_tile::<S, 2>(s, at);
                }
            }
        }
    }
}

/// Where a register tile lies in the output. Rows and columns past the end repeat the last one and are dropped.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

impl Kernel<'_> {
    #[inline(always)]
    fn register_tile<S: Simd, const R: usize>(&self, s: S, at: At) {
        let products = match &self.operands {
            Operands::F32(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::WideF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::WideBF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::F16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::BF16(x, w) => sums::<S, _, _, R>(s, at, x, w),
            Operands::I8 { x, w, x_scale, w_scale } => scaled::<S, R>(s, at, x, w, x_scale.row(0), w_scale.row(0)),
        };
        for (i, products) in products.iter().enumerate().take(at.rows) {
            let row = at.row + i;
            // SAFETY: a tile is a range of columns.
            let out = unsafe { self.out.part(row, at.col, at.cols) };
            self.finish(s, row, at.col, &products[..at.cols], out);
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, row: usize, col: usize, products: &[f32], out: &mut [f32]) {
        let cols = out.len();
        let mut y = [0.0; COLS];
        y[..cols].copy_from_slice(products);
        if let Some(bias) = &self.bias {
            y.iter_mut().zip(&bias.row(0)[col..]).for_each(|(y, bias)| *y += bias);
        }
        match &self.epilogue {
            Finish::Store => out.copy_from_slice(&y[..cols]),
            Finish::Silu => {
                let lanes = s.lanes(s.silu(s.load_some(&y)));
                out.copy_from_slice(&lanes[..cols]);
            }
            Finish::Residual => out.iter_mut().zip(y).for_each(|(out, y)| *out += y),
            Finish::AddPeriodic(table) => {
                let table = &table.row(row % table.rows)[col..];
                out.iter_mut().zip(y).zip(table).for_each(|((out, y), table)| *out = y + table);
            }
            Finish::GatedResidual { modulation, gate, layout } => {
                let gates = modulation.vector(layout.image_of(row), gate + col, cols);
                out.iter_mut().zip(y).zip(gates).for_each(|((out, y), gate)| *out += y * gate);
            }
        }
    }
}

/// f32 dot products of `R` rows of `x` with [`COLS`] rows of `w`.
#[inline(always)]
fn sums<S: Simd, X: Element, W: Element, const R: usize>(
    s: S,
    at: At,
    x: &Source<'_, X>,
    w: &Source<'_, W>,
) -> [[f32; COLS]; R] {
    let mut sums = [[s.splat(0.0); COLS]; R];
    dots::<X, W, R>(at, x, w, S::LANES, |x, w| {
        // SAFETY: `dots` passes pointers to LANES elements.
        let w = w.map(|w| unsafe { W::load(s, w) });
        for (sums, x) in sums.iter_mut().zip(x) {
            // SAFETY: as above.
            let x = unsafe { X::load(s, x) };
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = s.mul_add(x, w, *sum);
            }
        }
    });
    sums.map(|row| row.map(|sum| s.sum(sum)))
}

/// int8 dot products, scaled to f32.
#[inline(always)]
fn scaled<S: Simd, const R: usize>(
    s: S,
    at: At,
    x: &Source<'_, i8>,
    w: &Source<'_, i8>,
    x_scale: &[f32],
    w_scale: &[f32],
) -> [[f32; COLS]; R] {
    let mut sums = [[s.zero_i32(); COLS]; R];
    dots::<i8, i8, R>(at, x, w, S::BYTES, |x, w| {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, w) in sums.iter_mut().zip(w) {
                // SAFETY: `dots` passes pointers to BYTES elements.
                *sum = unsafe { s.dot_i8(*sum, x, w) };
            }
        }
    });
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

/// Walks `R` rows of `x` and [`COLS`] rows of `w` together, `width` elements at a time; the last, partial stretch
/// comes from copies that end in zeros.
#[inline(always)]
fn dots<X: bytemuck::Pod, W: bytemuck::Pod, const R: usize>(
    at: At,
    x: &Source<'_, X>,
    w: &Source<'_, W>,
    width: usize,
    mut step: impl FnMut([*const X; R], [*const W; COLS]),
) {
    let x: [&[X]; R] = core::array::from_fn(|i| x.row((at.row + i).min(at.row + at.rows - 1)));
    let w: [&[W]; COLS] = core::array::from_fn(|j| w.row((at.col + j).min(at.col + at.cols - 1)));
    let full = w[0].len() / width * width;
    for k in (0..full).step_by(width) {
        step(x.map(|x| x[k..k + width].as_ptr()), w.map(|w| w[k..k + width].as_ptr()));
    }
    let rest = w[0].len() - full;
    if rest > 0 {
        let mut x_tail = [[X::zeroed(); MAX_BYTES]; R];
        let mut w_tail = [[W::zeroed(); MAX_BYTES]; COLS];
        x_tail.iter_mut().zip(x).for_each(|(to, x)| to[..rest].copy_from_slice(&x[full..full + rest]));
        w_tail.iter_mut().zip(w).for_each(|(to, w)| to[..rest].copy_from_slice(&w[full..]));
        step(core::array::from_fn(|i| x_tail[i].as_ptr()), core::array::from_fn(|j| w_tail[j].as_ptr()));
    }
}

const _: () = assert!(MAX_LANES <= MAX_BYTES && ROWS == 6);
