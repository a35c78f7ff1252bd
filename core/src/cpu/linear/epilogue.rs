//! What happens to sums of products on their way to the output.

use bytemuck::Pod;

use super::super::matrix::{ModulationSource, Source, Target};
use super::super::memory::Arena;
use super::super::rounded::Rounded;
use super::super::simd::Simd;
use super::super::simd::block::MAX_ROWS;
use crate::TokenLayout;
use crate::built;
use crate::ops::{self, Linear};

/// What a linear layer does to sums before they are written.
pub(super) struct Epilogue<'a> {
    bias: Option<Source<'a, f32>>,
    post_op: PostOp<'a>,
    out: Rounded<'a>,
    pub(super) cols: usize,
}

enum PostOp<'a> {
    Store,
    Silu,
    Swiglu,
    Residual,
    AddPeriodic(Source<'a, f32>),
    GatedResidual { modulation: ModulationSource<'a>, gate: usize, layout: TokenLayout },
}

/// A stretch of the output: at most [`MAX_ROWS`] rows of at most a panel's columns.
#[derive(Clone, Copy)]
pub(super) struct Rect {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) col: usize,
    pub(super) cols: usize,
}

impl<'a> Epilogue<'a> {
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(op: &Linear, memory: &Arena<'a>) -> Epilogue<'a> {
        // SAFETY: the caller checked the descriptor.
        unsafe {
            let post_op = match &op.epilogue {
                ops::Epilogue::Store => PostOp::Store,
                ops::Epilogue::Silu => PostOp::Silu,
                ops::Epilogue::Swiglu { .. } => PostOp::Swiglu,
                ops::Epilogue::Residual => PostOp::Residual,
                ops::Epilogue::AddPeriodic(table) => PostOp::AddPeriodic(memory.source(table)),
                ops::Epilogue::GatedResidual { modulation, gate, layout } => {
                    PostOp::GatedResidual { modulation: memory.modulation(modulation), gate: *gate, layout: *layout }
                }
            };
            let bias = op.bias.as_ref().map(|bias| memory.source(bias));
            Epilogue { bias, post_op, out: Rounded::new(memory, &op.out, None), cols: op.out.cols }
        }
    }

    /// Asks for the lines that [`Epilogue::block`] will write, and read where it adds to them.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) fn fetch<S: Simd>(&self, s: S, at: Rect) {
        if built::SMALL {
            return;
        }
        match self.out {
            Rounded::F32(out) => fetch(s, out, at),
            Rounded::F16(out) => fetch(s, out, at),
            Rounded::BF16(out) => fetch(s, out, at),
            Rounded::I8(out, _) => fetch(s, out, at),
        }
    }

    /// Writes a block. `sums` has the sums of its rows one after another, `width` to a row, and so has `gate` where
    /// there is one, but in f32 and ready.
    ///
    /// # Safety
    /// No other tile touches the place.
    #[cfg_attr(feature = "simd", inline(always))]
    pub(super) unsafe fn block<S: Simd>(
        &self,
        s: S,
        at: Rect,
        (sums, gate): (&[f32], &[f32]),
        width: usize,
        scale: impl Scale<S>,
    ) {
        let operands = self.operands(at);
        let from = BlockSums { at, sums, width, scale };
        // SAFETY: the caller promises that no other tile touches the rectangle, in which every vector lies.
        unsafe {
            match (&self.post_op, self.out) {
                (PostOp::Swiglu, out) => self.write(
                    s,
                    from,
                    #[inline(always)]
                    |y, at: Vector| {
                        let gate = &gate[at.i * width..][..width][at.c..at.c + at.len];
                        let y = s.mul(s.silu(s.load_some(gate)), y);
                        out.store_vector(s, at.rect.row + at.i, at.rect.col + at.c, at.len, y);
                    },
                ),
                (PostOp::Store, Rounded::F32(out)) => {
                    self.write(
                        s,
                        from,
                        #[inline(always)]
                        |y, at: Vector| s.store_some(at.of(out), y),
                    );
                }
                (PostOp::Silu, Rounded::F32(out)) => {
                    self.write(
                        s,
                        from,
                        #[inline(always)]
                        |y, at: Vector| s.store_some(at.of(out), s.silu(y)),
                    );
                }
                (PostOp::Residual, Rounded::F32(out)) => self.write(
                    s,
                    from,
                    #[inline(always)]
                    |y, at: Vector| {
                        let out = at.of(out);
                        s.store_some(out, s.add(y, s.load_some(out)));
                    },
                ),
                (PostOp::AddPeriodic(_), Rounded::F32(out)) => self.write(
                    s,
                    from,
                    #[inline(always)]
                    |y, at: Vector| s.store_some(at.of(out), s.add(y, s.load_some(at.part(&operands)))),
                ),
                (PostOp::GatedResidual { .. }, Rounded::F32(out)) => self.write(
                    s,
                    from,
                    #[inline(always)]
                    |y, at: Vector| {
                        let out = at.of(out);
                        s.store_some(out, s.mul_add(y, s.load_some(at.part(&operands)), s.load_some(out)));
                    },
                ),
                // The descriptor's check lets nothing but SwiGLU write another type.
                _ => {}
            }
        }
    }

    /// Returns what a block's rows are combined with: rows of the table that is added, or of gates.
    #[cfg_attr(feature = "simd", inline(always))]
    fn operands(&self, at: Rect) -> [&[f32]; MAX_ROWS] {
        let mut operands: [&[f32]; MAX_ROWS] = [&[]; MAX_ROWS];
        let rows = operands.iter_mut().enumerate().take(at.rows);
        match &self.post_op {
            PostOp::AddPeriodic(table) => {
                rows.for_each(|(i, row)| *row = &table.row((at.row + i) % table.rows)[at.col..at.col + at.cols]);
            }
            PostOp::GatedResidual { modulation, gate, layout } => rows.for_each(|(i, row)| {
                *row = modulation.vector(layout.image_of(at.row + i), gate + at.col, at.cols);
            }),
            _ => {}
        }
        operands
    }

    /// Gives every vector of products, bias included, to `put`.
    #[cfg_attr(feature = "simd", inline(always))]
    fn write<S: Simd>(&self, s: S, from: BlockSums<'_, impl Scale<S>>, put: impl Fn(S::F32, Vector)) {
        let at = from.at;
        let bias = self.bias.as_ref().map(|bias| &bias.row(0)[at.col..at.col + at.cols]);
        let whole = at.cols / S::LANES * S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            write_columns(s, &from, (c, S::LANES), bias, &put);
        }
        if whole < at.cols {
            write_columns(s, &from, (whole, at.cols - whole), bias, &put);
        }
    }
}

/// Gives a vector of columns from column `c` on, or the first `len` of one, to `put`, row by row.
#[cfg_attr(feature = "simd", inline(always))]
fn write_columns<S: Simd>(
    s: S,
    from: &BlockSums<'_, impl Scale<S>>,
    (c, len): (usize, usize),
    bias: Option<&[f32]>,
    put: &impl Fn(S::F32, Vector),
) {
    let (rect, width) = (from.at, from.width);
    // Not by `map_or`: unless the compiler inlines that, it and the closure are without the instruction set.
    let bias = match bias {
        Some(bias) => s.load_some(&bias[c..c + len]),
        None => s.splat(0.0),
    };
    let columns = from.scale.columns(s, c, len);
    for i in 0..rect.rows {
        let y = s.add(from.scale.apply(s, columns, i, &from.sums[i * width..][..width][c..]), bias);
        put(y, Vector { rect, i, c, len });
    }
}

#[cfg_attr(feature = "simd", inline(always))]
fn fetch<S: Simd, T: Pod>(s: S, out: Target<'_, T>, at: Rect) {
    for i in 0..at.rows {
        // SAFETY: only the addresses are used.
        let row = unsafe { out.part(at.row + i, at.col, at.cols) };
        for line in row.chunks(64 / size_of::<T>()) {
            s.prefetch_near(line.as_ptr().cast());
        }
    }
}

/// Sums on their way to the output.
struct BlockSums<'a, F> {
    at: Rect,
    sums: &'a [f32],
    width: usize,
    scale: F,
}

/// How sums become products of the layer's true factors.
pub(super) trait Scale<S: Simd> {
    /// Whether sums and products differ.
    const SCALES: bool = true;
    /// What it knows of a vector of columns.
    type Columns: Copy;
    /// For the first `len` columns from column `c` of the block on.
    fn columns(&self, s: S, c: usize, len: usize) -> Self::Columns;
    /// The products in row `i` of the block from its sums, which are whole vectors where a panel was multiplied.
    fn apply(&self, s: S, columns: Self::Columns, i: usize, sums: &[f32]) -> S::F32;
}

/// Sums are the products.
pub(super) struct Unscaled;

/// Sums are i32, those of panels of int8 weights.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    /// What the sums of each column are too large by, whole vectors.
    pub(super) excess: &'a [i32],
    /// For each row of the block.
    pub(super) x: &'a [f32],
    /// For each column of the block.
    pub(super) w: &'a [f32],
}

/// The same for rows of one image, with what its shared mean adds.
pub(super) struct WithMean<'a> {
    pub(super) left: Scaled<'a>,
    /// For each column of the block, whole vectors.
    pub(super) addend: &'a [f32],
}

impl<S: Simd> Scale<S> for WithMean<'_> {
    type Columns = (<Scaled<'static> as Scale<S>>::Columns, S::F32);

    #[inline(always)]
    fn columns(&self, s: S, c: usize, len: usize) -> Self::Columns {
        (self.left.columns(s, c, len), s.load_some(&self.addend[c..]))
    }

    #[inline(always)]
    fn apply(&self, s: S, (columns, addend): Self::Columns, i: usize, sums: &[f32]) -> S::F32 {
        s.add(self.left.apply(s, columns, i, sums), addend)
    }
}

impl<S: Simd> Scale<S> for Unscaled {
    const SCALES: bool = false;
    type Columns = ();

    #[inline(always)]
    fn columns(&self, _: S, _: usize, _: usize) {}

    #[inline(always)]
    fn apply(&self, s: S, (): (), _: usize, sums: &[f32]) -> S::F32 {
        s.load_some(sums)
    }
}

impl<S: Simd> Scale<S> for Scaled<'_> {
    type Columns = (S::F32, *const i32);

    #[inline(always)]
    fn columns(&self, s: S, c: usize, len: usize) -> Self::Columns {
        (s.load_some(&self.w[c..c + len]), self.excess[c..][..S::LANES].as_ptr())
    }

    #[inline(always)]
    fn apply(&self, s: S, (w, excess): Self::Columns, i: usize, sums: &[f32]) -> S::F32 {
        // SAFETY: both are whole vectors, of i32 here.
        let sums = unsafe { s.load_i32(sums[..S::LANES].as_ptr().cast(), excess) };
        s.mul(sums, s.mul(s.splat(self.x[i]), w))
    }
}

/// A vector of a block: row `i`, columns `c..c + len`.
#[derive(Clone, Copy)]
struct Vector {
    rect: Rect,
    i: usize,
    c: usize,
    len: usize,
}

impl Vector {
    /// # Safety
    /// No other tile touches it.
    #[inline(always)]
    unsafe fn of<'a>(self, out: Target<'a, f32>) -> &'a mut [f32] {
        // SAFETY: the caller promises that no other tile touches the rectangle.
        unsafe { out.part(self.rect.row + self.i, self.rect.col + self.c, self.len) }
    }

    /// The same part of other rows as wide as the rectangle.
    #[inline(always)]
    fn part<'a>(self, rows: &[&'a [f32]; MAX_ROWS]) -> &'a [f32] {
        &rows[self.i][self.c..self.c + self.len]
    }
}

/// Makes products of the sums where they are, whole vectors, with the bias of their columns.
#[cfg_attr(feature = "simd", inline(always))]
pub(super) fn in_place<S: Simd>(
    s: S,
    at: Rect,
    sums: &mut [f32],
    width: usize,
    scale: impl Scale<S>,
    bias: Option<&[f32]>,
) {
    for c in (0..at.cols).step_by(S::LANES) {
        let len = S::LANES.min(at.cols - c);
        let bias = match bias {
            Some(bias) => s.load_some(&bias[c..c + len]),
            None => s.splat(0.0),
        };
        let columns = scale.columns(s, c, len);
        for i in 0..at.rows {
            let row = &mut sums[i * width..][..width];
            let y = s.add(scale.apply(s, columns, i, &row[c..]), bias);
            s.store_some(&mut row[c..c + S::LANES], y);
        }
    }
}
