//! What happens to sums of products on their way to the output.

use bytemuck::Pod;

use super::super::memory::{Arena, ModulationSource, Source, Target};
use super::super::quantize_rows::Rounded;
use super::super::simd::Simd;
use super::super::simd::product::MAX_ROWS;
use crate::TokenLayout;
use crate::ops::{Epilogue, Linear};

pub(super) struct Finish<'a> {
    bias: Option<Source<'a, f32>>,
    epilogue: Then<'a>,
    out: Rounded<'a>,
    pub(super) cols: usize,
}

enum Then<'a> {
    Store,
    Silu,
    Swiglu,
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
                Epilogue::Swiglu { .. } => Then::Swiglu,
                Epilogue::Residual => Then::Residual,
                Epilogue::AddPeriodic(table) => Then::AddPeriodic(memory.source(table)),
                Epilogue::GatedResidual { modulation, gate, layout } => {
                    Then::GatedResidual { modulation: memory.modulation(modulation), gate: *gate, layout: *layout }
                }
            };
            let bias = op.bias.as_ref().map(|bias| memory.source(bias));
            Finish { bias, epilogue, out: Rounded::new(memory, &op.out, None), cols: op.out.cols }
        }
    }

    /// Asks for the lines that [`Finish::block`] will write, and read where it adds to them.
    #[inline(always)]
    pub(super) fn fetch<S: Simd>(&self, s: S, at: Place) {
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
    #[inline(always)]
    pub(super) unsafe fn block<S: Simd>(
        &self,
        s: S,
        at: Place,
        (sums, gate): (&[f32], &[f32]),
        width: usize,
        scale: impl Scale<S>,
    ) {
        let mut beside: [&[f32]; MAX_ROWS] = [&[]; MAX_ROWS];
        let from = Block { at, sums, width, scale };
        // SAFETY: passed on.
        unsafe {
            match (&self.epilogue, self.out) {
                (Then::Swiglu, out) => self.write(s, from, Swiglu { out, gate, width }),
                (Then::Store, Rounded::F32(out)) => self.write(s, from, Store(out)),
                (Then::Silu, Rounded::F32(out)) => self.write(s, from, Silu(out)),
                (Then::Residual, Rounded::F32(out)) => self.write(s, from, Residual(out)),
                (Then::AddPeriodic(table), Rounded::F32(out)) => {
                    for (i, beside) in beside.iter_mut().enumerate().take(at.rows) {
                        *beside = &table.row((at.row + i) % table.rows)[at.col..at.col + at.cols];
                    }
                    self.write(s, from, Add(out, &beside));
                }
                (Then::GatedResidual { modulation, gate, layout }, Rounded::F32(out)) => {
                    for (i, beside) in beside.iter_mut().enumerate().take(at.rows) {
                        *beside = modulation.vector(layout.image_of(at.row + i), gate + at.col, at.cols);
                    }
                    self.write(s, from, Gated(out, &beside));
                }
                // The descriptor's check lets nothing but SwiGLU write another type.
                _ => {}
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
            unsafe { end.put(s, y, Vector { at, i, c, len }) };
        }
    }
}

#[inline(always)]
fn fetch<S: Simd, T: Pod>(s: S, out: Target<'_, T>, at: Place) {
    for i in 0..at.rows {
        // SAFETY: only the addresses are used.
        let row = unsafe { out.part(at.row + i, at.col, at.cols) };
        for line in row.chunks(64 / size_of::<T>()) {
            s.prefetch_near(line.as_ptr().cast());
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
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a> {
    /// What the sums of each column are too large by, whole vectors.
    pub(super) excess: &'a [i32],
    /// For each row of the block.
    pub(super) x: &'a [f32],
    /// For each column of the block.
    pub(super) w: &'a [f32],
}

/// The same for rows of one image, with what its centre adds.
pub(super) struct Centred<'a> {
    pub(super) left: Scaled<'a>,
    /// For each column of the block, whole vectors.
    pub(super) beside: &'a [f32],
}

impl<S: Simd> Scale<S> for Centred<'_> {
    type Columns = (<Scaled<'static> as Scale<S>>::Columns, S::F32);

    #[inline(always)]
    fn columns(&self, s: S, c: usize, len: usize) -> Self::Columns {
        (self.left.columns(s, c, len), s.load_some(&self.beside[c..]))
    }

    #[inline(always)]
    fn apply(&self, s: S, (columns, beside): Self::Columns, i: usize, sums: &[f32]) -> S::F32 {
        s.add(self.left.apply(s, columns, i, sums), beside)
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

/// A vector of a block: row `i`, columns `c..c + len`.
#[derive(Clone, Copy)]
struct Vector {
    at: Place,
    i: usize,
    c: usize,
    len: usize,
}

impl Vector {
    /// # Safety
    /// No other tile touches it.
    #[inline(always)]
    unsafe fn of<'a>(self, out: Target<'a, f32>) -> &'a mut [f32] {
        // SAFETY: passed on.
        unsafe { out.part(self.at.row + self.i, self.at.col + self.c, self.len) }
    }

    /// Of rows that lie beside the block's.
    #[inline(always)]
    fn beside<'a>(self, rows: &[&'a [f32]; MAX_ROWS]) -> &'a [f32] {
        &rows[self.i][self.c..self.c + self.len]
    }
}

/// An epilogue on one vector. A closure would be compiled without the instruction set.
trait End<S: Simd> {
    /// Writes what becomes of the product `y`.
    ///
    /// # Safety
    /// No other tile touches the vector's place.
    unsafe fn put(&self, s: S, y: S::F32, at: Vector);
}

struct Store<'a>(Target<'a, f32>);
struct Silu<'a>(Target<'a, f32>);
struct Residual<'a>(Target<'a, f32>);
/// Adds a row beside each row of the block.
struct Add<'a>(Target<'a, f32>, &'a [&'a [f32]; MAX_ROWS]);
/// Adds the product times a row beside each row of the block.
struct Gated<'a>(Target<'a, f32>, &'a [&'a [f32]; MAX_ROWS]);
/// Times SiLU of the gate, whose rows are `width` long.
struct Swiglu<'a> {
    out: Rounded<'a>,
    gate: &'a [f32],
    width: usize,
}

impl<S: Simd> End<S> for Store<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        // SAFETY: passed on.
        s.store_some(unsafe { at.of(self.0) }, y);
    }
}

impl<S: Simd> End<S> for Silu<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        // SAFETY: passed on.
        s.store_some(unsafe { at.of(self.0) }, s.silu(y));
    }
}

impl<S: Simd> End<S> for Residual<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        // SAFETY: passed on.
        let out = unsafe { at.of(self.0) };
        s.store_some(out, s.add(y, s.load_some(out)));
    }
}

impl<S: Simd> End<S> for Add<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        // SAFETY: passed on.
        s.store_some(unsafe { at.of(self.0) }, s.add(y, s.load_some(at.beside(self.1))));
    }
}

impl<S: Simd> End<S> for Gated<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        // SAFETY: passed on.
        let out = unsafe { at.of(self.0) };
        s.store_some(out, s.mul_add(y, s.load_some(at.beside(self.1)), s.load_some(out)));
    }
}

impl<S: Simd> End<S> for Swiglu<'_> {
    #[inline(always)]
    unsafe fn put(&self, s: S, y: S::F32, at: Vector) {
        let gate = &self.gate[at.i * self.width..][..self.width][at.c..at.c + at.len];
        let y = s.mul(s.silu(s.load_some(gate)), y);
        // SAFETY: passed on.
        unsafe { self.out.store_vector(s, at.at.row + at.i, at.at.col + at.c, at.len, y) };
    }
}

/// Makes products of the sums where they are, whole vectors, with the bias of their columns.
#[inline(always)]
pub(super) fn in_place<S: Simd>(
    s: S,
    at: Place,
    sums: &mut [f32],
    width: usize,
    scale: impl Scale<S>,
    bias: Option<&[f32]>,
) {
    for c in (0..at.cols).step_by(S::LANES) {
        let len = S::LANES.min(at.cols - c);
        let bias = bias.map_or(s.splat(0.0), |bias| s.load_some(&bias[c..c + len]));
        let columns = scale.columns(s, c, len);
        for i in 0..at.rows {
            let row = &mut sums[i * width..][..width];
            let y = s.add(scale.apply(s, columns, i, &row[c..]), bias);
            s.store_some(&mut row[c..c + S::LANES], y);
        }
    }
}
