//! Linear layers: `out = epilogue(x · wᵀ + bias)`, for `x (m, k)` and `w (n, k)`.
//!
//! Weights are multiplied in panels of [`Simd::PANEL`] columns of the product. `panels` walks them like this:
//!
//! ```text
//! for panel in n / PANEL                    ─┐ a tile: one task, which writes these rows of these columns
//! for part  in m / tile_rows                ─┘   6 tiles or more for each thread, so that none waits long at the end
//!     for block in part / ROWS              rows of x that stay in the first-level cache
//!         int8: x as products take it       (rewrite.rs: once for the layer, where there is scratch memory)
//!         for side in [gate, value]         the gate's side with SwiGLU alone
//!             sums = 0                      ROWS × PANEL in registers, or AMX tiles   (simd/product.rs, simd/amx.rs)
//!             for group in k / GROUP        GROUP: 1 f32, 2 bf16, 4 or 8 int8
//!                 sums += x[block, group] · w[panel, group]     a line of the panel, from the second-level cache
//!             int8: sums · x_scale · w_scale, + shared mean · w               (shared_mean.rs: once for an image)
//!         out[block, panel] = epilogue(sums + bias)             written once  (epilogue.rs)
//!         prefetch a part of the panel that this thread takes next
//! ```
//!
//! A panel comes packed ([`pack`](super::pack())), or is packed here, a slice of `k` at a time (`slices`): the same
//! words in the same order, and so the same sums. Programs that read each weight once multiply rows as they lie in the
//! file (`rows`).

mod epilogue;
mod operands;
mod panels;
mod rewrite;
mod rows;
mod shared_mean;
mod slices;

use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::Weight;
use crate::ops::{self, Linear};
use epilogue::Epilogue;
use operands::Matrix;
use rewrite::Rewritten;
use slices::{Loose, Weights};

pub(super) struct Kernel<'a>(Path<'a>);

#[expect(clippy::large_enum_variant, reason = "made once for a layer, where nothing allocates")]
enum Path<'a> {
    Panels(panels::Panels<'a>),
    Rows(rows::Rows<'a>),
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Linear, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    unsafe {
        let epilogue = Epilogue::new(op, memory);
        let value = Matrix::new(op, &op.w, None, memory);
        let gate = match &op.epilogue {
            ops::Epilogue::Swiglu { gate, bias } => Some((gate, Matrix::new(op, gate, bias.as_ref(), memory))),
            _ => None,
        };
        if memory.streams() && op.shared_mean.is_none() && gate.is_none() {
            let (count, kernel) = rows::tiles(op, value.operands, epilogue);
            return (count, Kernel(Path::Rows(kernel)));
        }
        let (value, gate) = match (memory.packed(&op.w), gate) {
            (Some(packed), None) => ((value, Weights::Packed(packed)), None),
            (packed, Some((w, gate))) => match (packed, memory.packed(w)) {
                (Some(packed), Some(packed_gate)) => {
                    ((value, Weights::Packed(packed)), Some((gate, Weights::Packed(packed_gate))))
                }
                _ => ((value, loose(&op.w, memory)), Some((gate, loose(w, memory)))),
            },
            (None, None) => ((value, loose(&op.w, memory)), None),
        };
        let (count, kernel) = panels::tiles(op, memory, value, gate, epilogue);
        (count, Kernel(Path::Panels(kernel)))
    }
}

/// # Safety
/// The weight was checked.
unsafe fn loose<'a>(weight: &Weight, memory: &Arena<'a>) -> Weights<'a> {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    Weights::Loose(unsafe { Loose::new(weight, memory) })
}

impl<'a> Kernel<'a> {
    /// What has to run before: the rows that products do not take as they are.
    pub(super) fn rows_to_rewrite(&self) -> Option<(usize, Rewritten<'a>)> {
        match &self.0 {
            Path::Panels(kernel) => kernel.rewritten.map(|rows| (rows.tiles(), rows)),
            Path::Rows(_) => None,
        }
    }
}

impl Tiles for Kernel<'_> {
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        // SAFETY: the caller runs each tile once.
        unsafe {
            match &self.0 {
                Path::Panels(kernel) => kernel.tile(s, index),
                Path::Rows(kernel) => kernel.tile(s, index),
            }
        }
    }
}
