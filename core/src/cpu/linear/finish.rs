//! What happens to sums of products on their way to the output.

use super::super::memory::{Arena, ModulationSource, Source, Target};
use super::super::simd::Simd;
use super::super::simd::product::MAX_ROWS;
use crate::TokenLayout;
use crate::ops::{Epilogue, Linear};

pub(super) struct Finish<'a> {
    bias: Option<Source<'a, f32>>,
    epilogue: Then<'a>,
    pub(super) out: Target<'a, f32>,
}

enum Then<'a> {
    Store,
    Silu,
    Residual,
    AddPeriodic(Source<'a, f32>),
    GatedResidual { modulation: ModulationSource<'a>, gate: usize, layout: TokenLayout },
}

/// A stretch of the output: at most [`MAX_ROWS`] rows of at most a panel's columns.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) col: usize,
    pub(super) cols: usize,
}

impl<'a> Finish<'a> {
    /// # Safety
    /// The descriptor was checked.
    pub(super) unsafe fn new(op: &Linear, memory: &Arena<'a>) -> Finish<'a> {
        // SAFETY: passed on.
        unsafe {
            let epilogue = match &op.epilogue {
                Epilogue::Store => Then::Store,
                Epilogue::Silu => Then::Silu,
                Epilogue::Residual => Then::Residual,
                Epilogue::AddPeriodic(table) => Then::AddPeriodic(memory.source(table)),
                Epilogue::GatedResidual { modulation, gate, layout } => {
                    Then::GatedResidual { modulation: memory.modulation(modulation), gate: *gate, layout: *layout }
                }
            };
            let bias = op.bias.as_ref().map(|bias| memory.source(bias));
            Finish { bias, epilogue, out: memory.target(&op.out) }
        }
    }

    /// Asks for the lines that [`Finish::block`] will write, and read where it adds to them.
    #[inline(always)]
    pub(super) fn fetch<S: Simd>(&self, s: S, at: Place) {
        for i in 0..at.rows {
            // SAFETY: only the address is used.
            let row = unsafe { self.out.part(at.row + i, at.col, at.cols) };
            for line in row.chunks(16) {
                s.prefetch_near(line.as_ptr().cast());
            }
        }
    }

    /// Writes a block. `sums` has the sums of its rows one after another, `width` to a row.
    ///
    /// # Safety
    /// No other tile touches the place.
    #[inline(always)]
    pub(super) unsafe fn block<S: Simd>(&self, s: S, at: Place, sums: &[f32], width: usize, scale: impl Scale<S>) {
        let mut beside: [&[f32]; MAX_ROWS] = [&[]; MAX_ROWS];
        let from = Block { at, sums, width, scale };
        // SAFETY: passed on.
        unsafe {
            match &self.epilogue {
                Then::Store => self.write(s, from, Store),
                Then::Silu => self.write(s, from, Silu),
                Then::Residual => self.write(s, from, Residual),
                Then::AddPeriodic(table) => {
                    for (i, beside) in beside.iter_mut().enumerate().take(at.rows) {
                        *beside = &table.row((at.row + i) % table.rows)[at.col..at.col + at.cols];
                    }
                    self.write(s, from, Add(&beside));
                }
                Then::GatedResidual { modulation, gate, layout } => {
                    for (i, beside) in beside.iter_mut().enumerate().take(at.rows) {
                        *beside = modulation.vector(layout.image_of(at.row + i), gate + at.col, at.cols);
                    }
                    self.write(s, from, Gated(&beside));
                }
            }
        }
    }

    /// # Safety
    /// As [`Finish::block`].
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, from: Block<'_, impl Scale<S>>, end: impl End<S>) {
        let at = from.at;
        let bias = self.bias.as_ref().map(|bias| &bias.row(0)[at.col..at.col + at.cols]);
        let whole = at.cols / S::LANES * S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // SAFETY: passed on.
            unsafe { self.write_columns(s, &from, c, S::LANES, bias, &end) };
        }
        if whole < at.cols {
            // SAFETY: passed on.
            unsafe { self.write_columns(s, &from, whole, at.cols - whole, bias, &end) };
        }
    }

    /// Writes a vector of columns, or the first `len` of one.
    ///
    /// # Safety
    /// As [`Finish::block`].
    #[inline(always)]
    unsafe fn write_columns<S: Simd>(
        &self,
        s: S,
        from: &Block<'_, impl Scale<S>>,
        c: usize,
        len: usize,
        bias: Option<&[f32]>,
        end: &impl End<S>,
    ) {
        let (at, width) = (from.at, from.width);
        let bias = bias.map_or(s.splat(0.0), |bias| s.load_some(&bias[c..c + len]));
        let columns = from.scale.columns(s, c, len);
        for i in 0..at.rows {
            let y = s.add(from.scale.apply(s, columns, i, &from.sums[i * width..][..width][c..]), bias);
            // SAFETY: passed on.
            let out = unsafe { self.out.part(at.row + i, at.col + c, len) };
            let y = end.apply(s, y, i, c..c + len, out);
            s.store_some(out, y);
        }
    }
}

/// Sums on their way to the output.
struct Block<'a, F> {
    at: Place,
    sums: &'a [f32],
    width: usize,
    scale: F,
}

/// How sums become products of the layer's true factors.
pub(super) trait Scale<S: Simd> {
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
pub(super) struct Scaled<'a> {
    /// What the sums of each column are too large by, whole vectors.
    pub(super) excess: &'a [i32],
    /// For each row of the block.
    pub(super) x: &'a [f32],
    /// For each column of the block.
    pub(super) w: &'a [f32],
}

/// The same with what each row's centre adds.
pub(super) struct Centred<'a> {
    pub(super) left: Scaled<'a>,
    /// For each row of the block, whole vectors.
    pub(super) beside: &'a [&'a [f32]; MAX_ROWS],
}

impl<S: Simd> Scale<S> for Centred<'_> {
    type Columns = (<Scaled<'static> as Scale<S>>::Columns, usize);

    #[inline(always)]
    fn columns(&self, s: S, c: usize, len: usize) -> Self::Columns {
        (self.left.columns(s, c, len), c)
    }

    #[inline(always)]
    fn apply(&self, s: S, (columns, c): Self::Columns, i: usize, sums: &[f32]) -> S::F32 {
        s.add(self.left.apply(s, columns, i, sums), s.load_some(&self.beside[i][c..]))
    }
}

impl<S: Simd> Scale<S> for Unscaled {
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

/// An epilogue on one vector. A closure would be compiled without the instruction set.
trait End<S: Simd> {
    /// What is written over `old` where the product is `y`, in row `i` and these columns of the block.
    fn apply(&self, s: S, y: S::F32, i: usize, columns: core::ops::Range<usize>, old: &[f32]) -> S::F32;
}

struct Store;
struct Silu;
struct Residual;
/// Adds a row beside each row of the block.
struct Add<'a>(&'a [&'a [f32]; MAX_ROWS]);
/// Adds the product times a row beside each row of the block.
struct Gated<'a>(&'a [&'a [f32]; MAX_ROWS]);

impl<S: Simd> End<S> for Store {
    #[inline(always)]
    fn apply(&self, _: S, y: S::F32, _: usize, _: core::ops::Range<usize>, _: &[f32]) -> S::F32 {
        y
    }
}

impl<S: Simd> End<S> for Silu {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, _: usize, _: core::ops::Range<usize>, _: &[f32]) -> S::F32 {
        s.silu(y)
    }
}

impl<S: Simd> End<S> for Residual {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, _: usize, _: core::ops::Range<usize>, old: &[f32]) -> S::F32 {
        s.add(y, s.load_some(old))
    }
}

impl<S: Simd> End<S> for Add<'_> {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, i: usize, columns: core::ops::Range<usize>, _: &[f32]) -> S::F32 {
        s.add(y, s.load_some(&self.0[i][columns]))
    }
}

impl<S: Simd> End<S> for Gated<'_> {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, i: usize, columns: core::ops::Range<usize>, old: &[f32]) -> S::F32 {
        s.mul_add(y, s.load_some(&self.0[i][columns]), s.load_some(old))
    }
}
