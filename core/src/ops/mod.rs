//! The seam: every kernel that the networks are made of, as a plain descriptor.
//!
//! A descriptor names views, never pointers, so the same forward pass drives slices, buffer objects and device
//! pointers. This side checks every descriptor against the regions ([`Recorder`]); a backend trusts what reaches
//! it. Each file holds one kernel: its contract, its check and its reference, which computes in f64 because it is
//! the judge of every fast twin. The twins carry the same stem: `cpu/<stem>.rs`, `vulkan/shaders/<stem>.comp`,
//! `cuda/kernels/<stem>.cu`.

pub(crate) use attention::MAX_HEAD_DIM;
mod attention;
mod causal_attention;
mod centre;
mod class_condition;
mod context_tokens;
mod dequantize_blocks;
mod gather_rows;
mod layer_norm;
mod linear;
mod memory;
mod norm_modulate;
mod patchify;
mod qk_norm_rope;
mod quantize_rows;
mod rms_norm;
mod solver_step;
mod swiglu;
mod unpatchify;

pub use attention::Attention;
pub use causal_attention::CausalAttention;
pub use centre::{Centre, Rest};
pub use class_condition::ClassCondition;
pub use context_tokens::ContextTokens;
pub use dequantize_blocks::{BLOCK, BLOCK_BYTES, DequantizeBlocks};
pub use gather_rows::GatherRows;
pub use layer_norm::LayerNorm;
pub use linear::{Epilogue, Linear};
pub use memory::{Bounds, InvalidOp, Memory};
pub use norm_modulate::NormModulate;
pub use patchify::Patchify;
pub use qk_norm_rope::{QkNormRope, Rope, RopePairs};
pub use quantize_rows::QuantizeRows;
pub use rms_norm::RmsNorm;
pub use solver_step::{HISTORY, SolverStep, StepValues};
pub use swiglu::{ROTATION, Swiglu, rotate};
pub use unpatchify::{PixelOrder, Unpatchify};

use crate::View;

/// Declares the kernels once: the trait that backends implement, the checked front and the judge.
macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident: $op:ident,)*) => {
        /// One method per kernel. A backend runs the kernel, or appends it to the recording under way.
        pub trait Kernels {
            /// What can go wrong on the device.
            type Error;
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the device reports.
                /// # Safety
                /// `op` has passed its `check` against the bounds of this backend's regions.
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Self::Error>;
            )*
            /// Shows a named intermediate tensor to whoever compares passes; nothing by default.
            ///
            /// # Errors
            /// What the device reports.
            fn tap(&mut self, _name: Tap, _view: &View) -> Result<(), Self::Error> {
                Ok(())
            }
        }

        /// The checked front of a backend's kernels, which the networks are written against.
        pub struct Recorder<'k, K: ?Sized> {
            kernels: &'k mut K,
            bounds: Bounds,
        }

        impl<'k, K: Kernels + ?Sized> Recorder<'k, K> {
            /// # Safety
            /// `bounds` are the sizes of the regions that `kernels` works on.
            pub unsafe fn new(kernels: &'k mut K, bounds: Bounds) -> Self {
                Recorder { kernels, bounds }
            }
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`OpError::Invalid`] when the descriptor does not fit the regions, else what the device reports.
                pub fn $name(&mut self, op: &$op) -> Result<(), OpError<K::Error>> {
                    op.check(&self.bounds)?;
                    // SAFETY: checked against the bounds that `new` was promised.
                    unsafe { self.kernels.$name(op) }.map_err(OpError::Device)
                }
            )*

            /// Shows a named intermediate tensor.
            ///
            /// # Errors
            /// What the device reports.
            pub fn tap(&mut self, name: Tap, view: &View) -> Result<(), OpError<K::Error>> {
                self.bounds.view(name.name(), view)?;
                self.kernels.tap(name, view).map_err(OpError::Device)
            }
        }

        /// Any kernel's descriptor, for code that treats them alike (tests, reports).
        #[derive(Clone, Copy, Debug)]
        pub enum Op {
            $(
                $(#[$doc])*
                $op($op),
            )*
        }

        impl Op {
            /// The kernel's stem.
            pub const fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => stringify!($name),)* }
            }

            /// Every kernel's stem.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Checks the kernel's arguments.
            ///
            /// # Errors
            /// [`InvalidOp`] when they do not fit these regions.
            pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
                match self { $(Op::$op(op) => op.check(bounds),)* }
            }

            /// What the kernel computes, slowly.
            pub(crate) fn reference(&self, memory: &mut Memory<'_>) {
                match self { $(Op::$op(op) => op.reference(memory),)* }
            }

            /// Records the kernel.
            ///
            /// # Errors
            /// As the method of the same name.
            pub fn record<K: Kernels + ?Sized>(&self, recorder: &mut Recorder<'_, K>) -> Result<(), OpError<K::Error>> {
                match self { $(Op::$op(op) => recorder.$name(op),)* }
            }
        }

        impl<K: Kernels + ?Sized> Kernels for &mut K {
            type Error = K::Error;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Self::Error> {
                    // SAFETY: passed on.
                    unsafe { (**self).$name(op) }
                }
            )*

            fn tap(&mut self, name: Tap, view: &View) -> Result<(), Self::Error> {
                (**self).tap(name, view)
            }
        }

        impl Kernels for Memory<'_> {
            type Error = core::convert::Infallible;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Self::Error> {
                    op.reference(self);
                    Ok(())
                }
            )*
        }
    };
}

kernels! {
    /// `out = epilogue(x · wᵀ + bias)`.
    linear: Linear,
    /// `out = SiLU(t_emb + label_emb)`, for every pair of a time and a label.
    class_condition: ClassCondition,
    /// In-context tokens: `out = label_emb + position`.
    context_tokens: ContextTokens,
    /// Image to patch rows.
    patchify: Patchify,
    /// Patch rows to image.
    unpatchify: Unpatchify,
    /// `out = RMSNorm(x) · (1 + scale) + shift`, quantised where `out` is int8.
    norm_modulate: NormModulate,
    /// `out = RMSNorm(x) + position`, quantised where `out` is int8.
    rms_norm: RmsNorm,
    /// `out = LayerNorm(x)` without affine, quantised where `out` is int8.
    layer_norm: LayerNorm,
    /// Per-head RMSNorm of queries and keys, then rotary position embedding, in place.
    qk_norm_rope: QkNormRope,
    /// `softmax(q · kᵀ / √head_dim) · v`, never writing the score matrix.
    attention: Attention,
    /// The same for text: each token sees those before it, and no padding.
    causal_attention: CausalAttention,
    /// `out = SiLU(a) · b` of `x = (a, b)`, quantised where `out` is int8.
    swiglu: Swiglu,
    /// Symmetric int8 rows with one scale each.
    quantize_rows: QuantizeRows,
    /// Groups of rows picked by number.
    gather_rows: GatherRows,
    /// ggml's Q8_0 blocks to f32.
    dequantize_blocks: DequantizeBlocks,
    /// Velocity, guidance and the solver's linear combination.
    solver_step: SolverStep,
}

/// A named intermediate tensor of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// `(images, hidden)`: the conditioning vector. Rows of the chunk's table of conditions.
    Condition,
    /// `(image rows, hidden)`: tokens after patch and position embedding.
    PatchEmbed,
    /// `(rows, hidden)`: the residual stream after block N.
    Block(u16),
    /// `(image rows, patch · patch · channels)`: the final layer's output.
    Final,
    /// `(images, channels · height · width)`: the predicted clean image.
    XHat,
    /// `(text rows, hidden)`: the text with positions, before its first block.
    TextEmbed,
    /// `(text rows, hidden)`: the text after its block N.
    TextBlock(u16),
    /// `(text rows, hidden)`: the text encoder's token embeddings.
    Embed,
    /// `(text rows, hidden)`: the text encoder's residual stream after layer N.
    Layer(u16),
    /// `(text rows, hidden)`: the text encoder's output.
    LastHiddenState,
}

impl Tap {
    /// The tensor's name, without a block's number.
    pub const fn name(self) -> &'static str {
        match self {
            Tap::Condition => "condition",
            Tap::PatchEmbed => "patch_embed",
            Tap::Block(_) => "block",
            Tap::Final => "final",
            Tap::XHat => "x_hat",
            Tap::TextEmbed => "text_embed",
            Tap::TextBlock(_) => "text",
            Tap::Embed => "embed",
            Tap::Layer(_) => "layer",
            Tap::LastHiddenState => "last_hidden_state",
        }
    }
}

impl core::fmt::Display for Tap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Tap::Block(i) | Tap::TextBlock(i) | Tap::Layer(i) => write!(f, "{}.{i}", self.name()),
            other => f.write_str(other.name()),
        }
    }
}

/// Why a kernel did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpError<E> {
    /// The descriptor does not fit its regions: a defect of the caller of the seam, never of a model file.
    Invalid(InvalidOp),
    /// The device failed.
    Device(E),
}

impl<E> From<InvalidOp> for OpError<E> {
    fn from(e: InvalidOp) -> Self {
        OpError::Invalid(e)
    }
}

impl<E: core::fmt::Display> core::fmt::Display for OpError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OpError::Invalid(e) => e.fmt(f),
            OpError::Device(e) => e.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for OpError<E> {}
