//! Linear layers: on packed panels of weights where there are any, else on the weights as they lie in the file.

mod panels;
mod rows;
#[cfg(test)]
mod tests;

use half::{bf16, f16};

use super::Tiles;
use super::memory::{Arena, ModulationSource, Source, Target};
use super::simd::Simd;
use crate::ops::{Epilogue, Linear};
use crate::{DType, TokenLayout};

pub(super) struct Kernel<'a>(Way<'a>);

enum Way<'a> {
    Panels(panels::Panels<'a>),
    Rows(rows::Rows<'a>),
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Linear, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    unsafe {
        let finish = Finish::new(op, memory);
        let operands = Operands::new(op, memory);
        match memory.packed(&op.w) {
            Some(packed) => {
                let (count, kernel) = panels::tiles(op, memory, packed, operands, finish);
                (count, Kernel(Way::Panels(kernel)))
            }
            None => {
                let (count, kernel) = rows::tiles(op, operands, finish);
                (count, Kernel(Way::Rows(kernel)))
            }
        }
    }
}

impl Tiles for Kernel<'_> {
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        // SAFETY: passed on.
        unsafe {
            match &self.0 {
                Way::Panels(kernel) => kernel.tile(s, index),
                Way::Rows(kernel) => kernel.tile(s, index),
            }
        }
    }
}

/// Both factors, and with them the kind of product.
#[derive(Clone, Copy)]
enum Operands<'a> {
    F32(Source<'a, f32>, Source<'a, f32>),
    WideF16(Source<'a, f32>, Source<'a, f16>),
    WideBF16(Source<'a, f32>, Source<'a, bf16>),
    F16(Source<'a, f16>, Source<'a, f16>),
    BF16(Source<'a, bf16>, Source<'a, bf16>),
    I8 { x: Source<'a, i8>, w: Source<'a, i8>, x_scale: Source<'a, f32>, w_scale: Source<'a, f32> },
}

impl<'a> Operands<'a> {
    /// # Safety
    /// The descriptor was checked.
    unsafe fn new(op: &Linear, memory: &Arena<'a>) -> Operands<'a> {
        // SAFETY: passed on; element types are as the descriptor's check found them.
        unsafe {
            match (op.x.dtype, op.w.data.dtype, op.x_scale, op.w.scale) {
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
            }
        }
    }
}

/// What happens to sums before they are written.
struct Finish<'a> {
    bias: Option<Source<'a, f32>>,
    epilogue: Then<'a>,
    out: Target<'a, f32>,
}

enum Then<'a> {
    Store,
    Silu,
    Residual,
    AddPeriodic(Source<'a, f32>),
    GatedResidual { modulation: ModulationSource<'a>, gate: usize, layout: TokenLayout },
}

impl<'a> Finish<'a> {
    /// # Safety
    /// The descriptor was checked.
    unsafe fn new(op: &Linear, memory: &Arena<'a>) -> Finish<'a> {
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

    /// Writes columns `col..col + cols` of a row from the sums of its products, to which `scale` still applies.
    ///
    /// # Safety
    /// No other tile touches them.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, row: usize, col: usize, cols: usize, sums: &[f32], scale: Scale<'_>) {
        // SAFETY: passed on.
        let out = unsafe { self.out.part(row, col, cols) };
        let bias = self.bias.as_ref().map(|bias| &bias.row(0)[col..col + cols]);
        let line = Line { sums, scale, bias, out };
        match &self.epilogue {
            Then::Store => line.write(s, Store),
            Then::Silu => line.write(s, Silu),
            Then::Residual => line.write(s, Residual),
            Then::AddPeriodic(table) => line.write(s, Add(&table.row(row % table.rows)[col..col + cols])),
            Then::GatedResidual { modulation, gate, layout } => {
                line.write(s, Gated(modulation.vector(layout.image_of(row), gate + col, cols)));
            }
        }
    }
}

/// What sums are multiplied with.
#[derive(Clone, Copy)]
enum Scale<'a> {
    None,
    /// The sums are i32 in whole vectors, too large by `excess`, which is whole vectors as well.
    I8 {
        excess: &'a [i32],
        x: f32,
        w: &'a [f32],
    },
}

/// A stretch of one row on its way from sums to output. All slices have the output's length, `sums` whole vectors.
struct Line<'a> {
    sums: &'a [f32],
    scale: Scale<'a>,
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Line<'_> {
    #[inline(always)]
    fn write<S: Simd>(self, s: S, end: impl End<S>) {
        let whole = self.out.len() / S::LANES * S::LANES;
        let (out, rest) = self.out.split_at_mut(whole);
        for (i, out) in out.chunks_exact_mut(S::LANES).enumerate() {
            let c = i * S::LANES;
            let y = sum(s, self.sums, self.scale, self.bias, c);
            s.store_some(out, end.apply(s, y, c, out));
        }
        if !rest.is_empty() {
            let y = sum(s, self.sums, self.scale, self.bias, whole);
            s.store_some(rest, end.apply(s, y, whole, rest));
        }
    }
}

/// The scaled sums with their bias, from column `c` on.
#[inline(always)]
fn sum<S: Simd>(s: S, sums: &[f32], scale: Scale<'_>, bias: Option<&[f32]>, c: usize) -> S::F32 {
    let y = match scale {
        Scale::None => s.load_some(&sums[c..]),
        Scale::I8 { excess, x, w } => {
            // SAFETY: both are whole vectors, of i32 here.
            let sum = unsafe { s.load_i32(sums[c..][..S::LANES].as_ptr().cast(), excess[c..][..S::LANES].as_ptr()) };
            s.mul(sum, s.mul(s.splat(x), s.load_some(&w[c..])))
        }
    };
    match bias {
        Some(bias) => s.add(y, s.load_some(&bias[c..])),
        None => y,
    }
}

/// An epilogue on one vector. A closure would be compiled without the instruction set.
trait End<S: Simd> {
    /// What is written over `old` where the sum is `y`, at column `c`.
    fn apply(&self, s: S, y: S::F32, c: usize, old: &[f32]) -> S::F32;
}

struct Store;
struct Silu;
struct Residual;
struct Add<'a>(&'a [f32]);
struct Gated<'a>(&'a [f32]);

impl<S: Simd> End<S> for Store {
    #[inline(always)]
    fn apply(&self, _: S, y: S::F32, _: usize, _: &[f32]) -> S::F32 {
        y
    }
}

impl<S: Simd> End<S> for Silu {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, _: usize, _: &[f32]) -> S::F32 {
        s.silu(y)
    }
}

impl<S: Simd> End<S> for Residual {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, _: usize, old: &[f32]) -> S::F32 {
        s.add(y, s.load_some(old))
    }
}

impl<S: Simd> End<S> for Add<'_> {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, c: usize, _: &[f32]) -> S::F32 {
        s.add(y, s.load_some(&self.0[c..]))
    }
}

impl<S: Simd> End<S> for Gated<'_> {
    #[inline(always)]
    fn apply(&self, s: S, y: S::F32, c: usize, old: &[f32]) -> S::F32 {
        s.mul_add(y, s.load_some(&self.0[c..]), s.load_some(old))
    }
}
