//! The CPU backend: each kernel's algorithm once, generic over the instruction set.
//!
//! A kernel is split into tiles that write disjoint parts of its output and whose results do not depend on how the
//! tiles are spread over threads, so that one instruction set gives one image for any number of threads.

mod attention;
mod causal_attention;
mod class_condition;
mod context_tokens;
mod dequantize_blocks;
mod exec;
mod gather_rows;
mod isa;
mod layer_norm;
mod linear;
mod matrix;
mod memory;
mod norm_modulate;
mod pack;
mod patchify;
mod qk_norm_rope;
mod quantize_rows;
mod rms_norm;
mod roofline;
mod rounded;
mod shape;
mod shared_mean;
mod simd;
mod solver_step;
mod swiglu;
mod tiles;
mod unpatchify;

use core::convert::Infallible;
use core::marker::PhantomData;

pub use exec::{Executor, Serial};
pub use isa::Isa;
pub use pack::{WeightSource, pack, pack_from, packed_bytes};

use crate::backend::{Backend, ModelFile, Program};
use crate::built;
use crate::ops::{Bounds, MAX_HEAD_DIM, Op, SharedMean};
use crate::tensor::Precision;
use crate::{DType, Region, View};
use memory::Arena;
use pack::Packed;
use tiles::Tiles;

/// The CPU as a backend: a model file's bytes, an arena, threads and an instruction set.
pub struct Cpu<'a> {
    memory: Arena<'a>,
    executor: &'a dyn Executor,
    isa: Isa,
    file: Option<&'a dyn ModelFile>,
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

impl Isa {
    /// Bytes for [`Cpu::with_scratch`] with which a network's kernels keep this many threads busy: its plan says how many
    /// channels a head of attention has, and the rows and columns of the largest int8 activations.
    pub fn scratch_bytes(self, head_dim: usize, int8: [usize; 2], threads: usize) -> usize {
        self.attention_bytes(head_dim, threads).max(self.rewritten_bytes(int8))
    }

    /// The same for one kernel.
    pub fn scratch_bytes_of(self, op: &Op, threads: usize) -> usize {
        match op {
            Op::Attention(op) => self.attention_bytes(op.head_dim(), threads),
            Op::Linear(op) if op.x.dtype == DType::I8 => self.rewritten_bytes([op.x.rows, op.x.cols]),
            _ => 0,
        }
    }

    fn attention_bytes(self, head_dim: usize, threads: usize) -> usize {
        attention::scratch_bytes(isa::shape(self).panel, head_dim.min(MAX_HEAD_DIM)) * attention::tiles_of(threads)
    }

    fn rewritten_bytes(self, [rows, k]: [usize; 2]) -> usize {
        isa::shape(self).rewritten_bytes(rows, k).unwrap_or(0)
    }
}

impl<'a> Cpu<'a> {
    /// A backend over the whole model file and an arena of [`Plan::arena_bytes`](crate::models::network::Plan) or more.
    ///
    /// # Errors
    /// [`Misaligned`] unless both start at multiples of 64 bytes.
    pub fn new(file: &'a [u8], arena: &'a mut [u8], executor: &'a dyn Executor, isa: Isa) -> Result<Self, Misaligned> {
        let memory = Arena::new(file, arena, executor.threads(), isa::shape(isa)).ok_or(Misaligned)?;
        Ok(Cpu { memory, executor, isa, file: None, lives: PhantomData })
    }

    /// Takes weights from a region that [`pack`] filled from the same file for the same instruction set; those that
    /// are not in it still come from the file. A region of another instruction set is ignored. The results are the same
    /// to the byte; without it a linear layer packs what it reads a slice at a time, and takes longer.
    #[must_use]
    pub fn with_packed(mut self, region: &'a [u8]) -> Self {
        self.memory = self.memory.with_packed(Packed::new(region, self.isa));
        self
    }

    /// Tells the file of each matrix that a program which runs once has read: it is not needed again soon.
    #[must_use]
    pub fn with_file(mut self, file: &'a dyn ModelFile) -> Self {
        self.file = Some(file);
        self
    }

    /// Gives kernels memory to work in, from a multiple of 64 on: [`Isa::scratch_bytes`] of it, or less. Attention runs
    /// as many tiles at once as there is room for; without it each works on the stack of its thread, which then needs
    /// up to 160 KiB. Layers of int8 rewrite their activations there once, or else for each panel of weights.
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
    fn launch(&self, (count, kernel): (usize, impl Tiles)) {
        isa::launch(self.isa, self.executor, count, &kernel);
    }

    fn has_read(&self, matrix: &View) {
        if let Some(file) = self.file.filter(|_| self.memory.streams() && matrix.region == Region::Weights) {
            file.has_read(matrix);
        }
    }
}

impl Cpu<'_> {
    /// Launches a kernel that takes a shared mean out of its rows: first the shared means, then the rows, which are
    /// read again.
    ///
    /// # Safety
    /// The descriptors were checked, and no other kernel runs.
    unsafe fn centred<R: rounded::RowSource>(
        &self,
        op: Option<&SharedMean>,
        (count, kernel): (usize, shared_mean::RoundedRows<'_, R>),
    ) {
        if let Some(shared_mean) = op.filter(|_| built::INT8) {
            // SAFETY: the caller promises both.
            let (images, means) = unsafe { shared_mean::tiles(shared_mean, &kernel.rows, &self.memory) };
            self.launch((images, means));
        }
        self.launch((count, kernel));
    }
}

// SAFETY: the bounds are the lengths of the slices given to `new`.
unsafe impl Backend for Cpu<'_> {
    type Error = Infallible;

    fn precision(&self) -> Precision {
        self.isa.precision()
    }

    fn bounds(&self) -> Bounds {
        self.memory.bounds()
    }

    fn begin(&mut self, program: Program) -> Result<bool, Infallible> {
        self.memory.set_streams(!program.replayed);
        Ok(true)
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Infallible> {
        let memory = &self.memory;
        // SAFETY: the caller checked the descriptor against `bounds`, and `&mut self` means that no other kernel runs.
        unsafe {
            match op {
                Op::Linear(op) => {
                    let layer = linear::tiles(op, memory);
                    if let Some(rows) = layer.1.rows_to_rewrite() {
                        self.launch(rows);
                    }
                    self.launch(layer);
                    self.has_read(&op.w.data);
                }
                Op::ClassCondition(op) => self.launch(class_condition::tiles(op, memory)),
                Op::ContextTokens(op) => self.launch(context_tokens::tiles(op, memory)),
                Op::Patchify(op) => self.launch(patchify::tiles(op, memory)),
                Op::Unpatchify(op) => self.launch(unpatchify::tiles(op, memory)),
                Op::NormModulate(op) => self.centred(op.shared_mean.as_ref(), norm_modulate::tiles(op, memory)),
                Op::RmsNorm(op) => self.launch(rms_norm::tiles(op, memory)),
                Op::LayerNorm(op) => self.launch(layer_norm::tiles(op, memory)),
                Op::QkNormRope(op) => self.launch(qk_norm_rope::tiles(op, memory)),
                Op::Attention(op) => self.launch(attention::tiles(op, memory)),
                Op::CausalAttention(op) => self.launch(causal_attention::tiles(op, memory)),
                Op::Swiglu(op) => self.launch(swiglu::tiles(op, memory)),
                Op::QuantizeRows(op) => self.centred(op.shared_mean.as_ref(), quantize_rows::tiles(op, memory)),
                Op::GatherRows(op) => self.launch(gather_rows::tiles(op, memory)),
                Op::DequantizeBlocks(op) => {
                    self.launch(dequantize_blocks::tiles(op, memory));
                    self.has_read(&op.x);
                }
                Op::SolverStep(op) => self.launch(solver_step::tiles(op, memory)),
            }
        }
        Ok(())
    }

    fn submit(&mut self, _program: Program) -> Result<(), Infallible> {
        Ok(())
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.memory.upload(at, bytes);
        Ok(())
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.memory.download(at, bytes);
        Ok(())
    }
}

impl core::fmt::Debug for Cpu<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cpu").field("isa", &self.isa).finish_non_exhaustive()
    }
}
