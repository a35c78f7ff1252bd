//! The CPU backend: each kernel's algorithm once, generic over the instruction set.
//!
//! A kernel is split into tiles that write disjoint parts of its output and whose results do not depend on how the
//! tiles are spread over threads, so that one instruction set gives one image for any number of threads.

mod attention;
mod causal_attention;
mod centre;
mod class_condition;
mod context_tokens;
mod dequantize_blocks;
mod gather_rows;
mod isa;
mod layer_norm;
mod linear;
mod memory;
mod norm_modulate;
mod pack;
mod patchify;
mod qk_norm_rope;
mod quantize_rows;
mod rms_norm;
mod roofline;
mod simd;
mod solver_step;
mod swiglu;
mod unpatchify;

use core::convert::Infallible;
use core::marker::PhantomData;

pub use isa::Isa;
pub use pack::{pack, packed_bytes};

use crate::backend::{Backend, Program};
use crate::exec::Executor;
use crate::ops::*;
use crate::plan::Precision;
use crate::{Region, View};
use memory::Arena;
use pack::Packed;
use simd::Simd;

/// What sees a pass's intermediate tensors: the name and the bytes of a view without padding.
pub type TapFn<'a> = dyn FnMut(Tap, &View, &[u8]) + 'a;

/// What is told of a matrix that has been read from the model file itself.
pub type ReadFn<'a> = dyn FnMut(&View) + 'a;

/// The CPU as a backend: a model file's bytes, an arena, threads and an instruction set.
pub struct Cpu<'a, E> {
    memory: Arena<'a>,
    executor: E,
    isa: Isa,
    tap: Option<&'a mut TapFn<'a>>,
    read: Option<&'a mut ReadFn<'a>>,
    lives: PhantomData<&'a mut [u8]>,
}

/// The memory given to [`Cpu::new`] does not start at a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misaligned;

impl core::fmt::Display for Misaligned {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the model's bytes and the arena must start at multiples of 64 in memory")
    }
}

impl core::error::Error for Misaligned {}

impl<'a, E: Executor> Cpu<'a, E> {
    /// A backend over the whole model file and an arena of [`Plan::arena_bytes`](crate::network::Plan) or more.
    ///
    /// # Errors
    /// [`Misaligned`] unless both start at multiples of 64 bytes.
    pub fn new(file: &'a [u8], arena: &'a mut [u8], executor: E, isa: Isa) -> Result<Self, Misaligned> {
        let memory = Arena::new(file, arena, executor.threads(), isa::shape(isa).panel).ok_or(Misaligned)?;
        Ok(Cpu { memory, executor, isa, tap: None, read: None, lives: PhantomData })
    }

    /// Takes weights from a region that [`pack`] filled from the same file for the same instruction set; those that
    /// are not in it still come from the file. A region of another instruction set is ignored. The results are the same
    /// to the byte; without it a linear layer packs what it reads a slice at a time, and takes longer.
    #[must_use]
    pub fn with_packed(mut self, region: &'a [u8]) -> Self {
        self.memory = self.memory.with_packed(Packed::new(region, self.isa));
        self
    }

    /// Shows every intermediate tensor to `tap`.
    #[must_use]
    pub fn with_tap(mut self, tap: &'a mut TapFn<'a>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Tells `read` of each matrix that a linear layer has just read from the file because it is not packed. Where
    /// the file is mapped, and the matrix is not needed again soon, its pages can be given back at once.
    #[must_use]
    pub fn with_read(mut self, read: &'a mut ReadFn<'a>) -> Self {
        self.read = Some(read);
        self
    }

    /// Gives attention memory to work in, from a multiple of 64 on: as many tiles run at once as there are
    /// [`Isa::scratch_bytes`] for. Without it each works on the stack of its thread, which then needs up to 160 KiB.
    #[must_use]
    pub fn with_scratch(mut self, scratch: &'a mut [u8]) -> Self {
        self.memory = self.memory.with_scratch(scratch);
        self
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs tiles `0..count` of a kernel with the chosen instruction set, spread over the threads.
    fn launch(&self, count: usize, kernel: &impl Tiles) {
        isa::launch(self.isa, &self.executor, count, kernel);
    }

    fn has_read(&mut self, matrix: &View) {
        if let Some(read) = self.read.as_mut().filter(|_| matrix.region == Region::Weights) {
            read(matrix);
        }
    }
}

/// A kernel cut into tiles. Implementations are `#[inline(always)]`, so that their code is compiled with the
/// instruction set of the caller.
trait Tiles: Sync {
    /// Whether the code differs between levels of one vector width, which differ in products only.
    const PRODUCTS: bool = false;

    /// Calls `tile`, which computes one tile, with the kernel and whatever that needs beside.
    #[inline(always)]
    fn prepared(&self, tile: impl FnOnce(&Self)) {
        tile(self);
    }

    /// Computes one tile.
    ///
    /// # Safety
    /// No two tiles of one kernel run with the same number at the same time, and the descriptor was checked.
    unsafe fn tile<S: Simd>(&self, s: S, index: usize);
}

macro_rules! forward_kernels {
    ($($name:ident: $op:ident,)*; $($centred:ident: $centred_op:ident,)*) => {
        impl<E: Executor> Kernels for Cpu<'_, E> {
            type Error = Infallible;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Infallible> {
                    // SAFETY: the descriptor was checked, and `&mut self` means that no other kernel runs.
                    let (count, kernel) = unsafe { $name::tiles(op, &self.memory) };
                    self.launch(count, &kernel);
                    Ok(())
                }
            )*

            $(
                unsafe fn $centred(&mut self, op: &$centred_op) -> Result<(), Infallible> {
                    // SAFETY: as above; the rows are read again after the centres are written.
                    let (count, kernel) = unsafe { $centred::tiles(op, &self.memory) };
                    if let Some(centre) = &op.centre {
                        // SAFETY: as above.
                        let (images, means) = unsafe { centre::tiles(centre, &kernel.rows, &self.memory) };
                        self.launch(images, &means);
                    }
                    self.launch(count, &kernel);
                    Ok(())
                }
            )*

            unsafe fn linear(&mut self, op: &Linear) -> Result<(), Infallible> {
                // SAFETY: as above.
                let (count, kernel) = unsafe { linear::tiles(op, &self.memory) };
                self.launch(count, &kernel);
                if self.memory.packed(&op.w).is_none() {
                    self.has_read(&op.w.data);
                }
                Ok(())
            }

            unsafe fn dequantize_blocks(&mut self, op: &DequantizeBlocks) -> Result<(), Infallible> {
                // SAFETY: as above.
                let (count, kernel) = unsafe { dequantize_blocks::tiles(op, &self.memory) };
                self.launch(count, &kernel);
                self.has_read(&op.x);
                Ok(())
            }

            fn tap(&mut self, name: Tap, view: &View) -> Result<(), Infallible> {
                if let Some(tap) = &mut self.tap {
                    // SAFETY: the recorder checked the view, and no kernel runs.
                    let bytes = unsafe { self.memory.bytes(view) };
                    tap(name, view, bytes);
                }
                Ok(())
            }
        }
    };
}

forward_kernels! {
    class_condition: ClassCondition,
    context_tokens: ContextTokens,
    patchify: Patchify,
    unpatchify: Unpatchify,
    rms_norm: RmsNorm,
    layer_norm: LayerNorm,
    qk_norm_rope: QkNormRope,
    attention: Attention,
    causal_attention: CausalAttention,
    swiglu: Swiglu,
    gather_rows: GatherRows,
    solver_step: SolverStep,
    ;
    norm_modulate: NormModulate,
    quantize_rows: QuantizeRows,
}

// SAFETY: the bounds are the lengths of the slices given to `new`.
unsafe impl<E: Executor> Backend for Cpu<'_, E> {
    fn precision(&self) -> Precision {
        self.isa.precision()
    }

    fn bounds(&self) -> Bounds {
        self.memory.bounds()
    }

    fn begin(&mut self, program: Program) -> Result<bool, Infallible> {
        self.memory.set_streams(matches!(program, Program::Modulation { .. } | Program::Encode));
        Ok(true)
    }

    fn submit(&mut self, _program: Program) -> Result<(), Infallible> {
        Ok(())
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Infallible> {
        self.memory.write(view, bytes);
        Ok(())
    }

    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.memory.read(view, bytes);
        Ok(())
    }
}

impl<E> core::fmt::Debug for Cpu<'_, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cpu").field("isa", &self.isa).finish_non_exhaustive()
    }
}
