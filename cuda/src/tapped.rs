//! A backend that shows every intermediate tensor: its programs run kernel by kernel, and are not kept.

use denoir_core::View;
use denoir_core::backend::{Backend, Program};
use denoir_core::cpu::TapFn;
use denoir_core::ops::*;
use denoir_core::plan::Precision;

use crate::{Cuda, Error};

/// An engine whose passes are watched.
pub struct Tapped<'v> {
    cuda: &'v mut Cuda,
    tap: &'v mut TapFn<'v>,
}

impl Cuda {
    /// The same engine, showing the name and the bytes, without padding, of every intermediate tensor to `tap`.
    pub fn tapped<'v>(&'v mut self, tap: &'v mut TapFn<'v>) -> Tapped<'v> {
        Tapped { cuda: self, tap }
    }
}

macro_rules! forward_kernels {
    ($($name:ident: $op:ident,)*) => {
        impl Kernels for Tapped<'_> {
            type Error = Error;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Error> {
                    // SAFETY: passed on.
                    unsafe { self.cuda.$name(op) }
                }
            )*

            fn tap(&mut self, name: Tap, view: &View) -> Result<(), Error> {
                let row_bytes = view.cols * view.dtype.size();
                let mut bytes = vec![0; view.rows * row_bytes];
                for (r, row) in bytes.chunks_exact_mut(row_bytes).enumerate() {
                    self.cuda.read(&view.rows_from(r, 1), row)?;
                }
                (self.tap)(name, view, &bytes);
                Ok(())
            }
        }
    };
}

forward_kernels! {
    linear: Linear,
    class_condition: ClassCondition,
    context_tokens: ContextTokens,
    patchify: Patchify,
    unpatchify: Unpatchify,
    norm_modulate: NormModulate,
    rms_norm: RmsNorm,
    layer_norm: LayerNorm,
    qk_norm_rope: QkNormRope,
    attention: Attention,
    causal_attention: CausalAttention,
    swiglu: Swiglu,
    quantize_rows: QuantizeRows,
    gather_rows: GatherRows,
    dequantize_blocks: DequantizeBlocks,
    solver_step: SolverStep,
}

// SAFETY: the engine's own bounds.
unsafe impl Backend for Tapped<'_> {
    fn precision(&self) -> Precision {
        self.cuda.precision()
    }

    fn bounds(&self) -> Bounds {
        self.cuda.bounds()
    }

    fn begin(&mut self, _program: Program) -> Result<bool, Error> {
        self.cuda.run_at_once();
        Ok(true)
    }

    fn submit(&mut self, _program: Program) -> Result<(), Error> {
        Ok(())
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.cuda.write(view, bytes)
    }

    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.cuda.read(view, bytes)
    }
}

impl std::fmt::Debug for Tapped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tapped").field(&self.cuda).finish()
    }
}
