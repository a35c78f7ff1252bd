//! The seam between networks and devices: a plain descriptor for every kernel.
//!
//! A descriptor names views, never pointers, so the same forward pass drives slices, buffer objects and device
//! pointers. [`Recorder`](crate::backend::Recorder) checks every descriptor against the regions, so backends can trust
//! descriptors. Each file holds one kernel: its contract, its check and its reference, which computes in f64 because it
//! judges every fast twin. The twins have the same stem: `cpu/<stem>.rs`, `vulkan/shaders/<stem>.comp`,
//! `cuda/kernels/<stem>.cu`.

pub(crate) use attention::MAX_HEAD_DIM;
mod attention;
mod causal_attention;
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
mod shared_mean;
mod solver_step;
mod swiglu;
mod unpatchify;

pub use attention::Attention;
pub use causal_attention::CausalAttention;
pub use class_condition::ClassCondition;
pub use context_tokens::ContextTokens;
pub use dequantize_blocks::{BLOCK, BLOCK_BYTES, DequantizeBlocks};
pub use gather_rows::GatherRows;
pub use layer_norm::LayerNorm;
pub use linear::{Epilogue, Linear};
pub use memory::{Bounds, InvalidOp, Memory};
pub(crate) use memory::{max_magnitude, scale_of};
pub use norm_modulate::NormModulate;
pub use patchify::Patchify;
pub use qk_norm_rope::{QkNormRope, Rope, RopePairs};
pub use quantize_rows::QuantizeRows;
pub use rms_norm::RmsNorm;
pub use shared_mean::SharedMean;
pub use solver_step::{HISTORY, SolverStep, StepValues};
pub use swiglu::{ROTATION, Swiglu, rotate};
pub use unpatchify::{PixelOrder, Unpatchify};

use crate::tensor::Precision;

/// Lists the kernels once: passes their stems and descriptors to a macro.
macro_rules! kernels {
    ($declare:ident) => {
        $declare! {
            /// `out = epilogue(x · wᵀ + bias)`.
            linear: Linear,
            /// `out = SiLU(t_emb + label_emb)`, for every pair of a time and a label.
            class_condition: ClassCondition,
            /// In-context class tokens: `out = label_emb + position`.
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
            /// `softmax(q · kᵀ / √head_dim) · v`, without writing the score matrix.
            attention: Attention,
            /// Causal attention for text: each token attends to itself and earlier tokens, and not to padding.
            causal_attention: CausalAttention,
            /// `out = SiLU(a) · b` of `x = (a, b)`, quantised where `out` is int8.
            swiglu: Swiglu,
            /// Symmetric int8 rows with one scale each.
            quantize_rows: QuantizeRows,
            /// Groups of rows selected by index.
            gather_rows: GatherRows,
            /// ggml's Q8_0 blocks to f32.
            dequantize_blocks: DequantizeBlocks,
            /// Velocity, guidance and the solver's linear combination.
            solver_step: SolverStep,
        }
    };
}
pub(crate) use kernels;

macro_rules! declare_op {
    ($($(#[$doc:meta])* $name:ident: $op:ident,)*) => {
        /// A kernel with its arguments.
        #[derive(Clone, Copy, Debug)]
        pub enum Op {
            $(
                $(#[$doc])*
                $op($op),
            )*
        }

        impl Op {
            /// Every kernel's stem.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The kernel's stem.
            pub const fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => stringify!($name),)* }
            }

            /// Checks the kernel's arguments.
            ///
            /// # Errors
            /// [`InvalidOp`] if they do not fit these regions.
            pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
                match self { $(Op::$op(op) => op.check(bounds),)* }
            }

            /// Runs the slow reference of the kernel.
            pub(crate) fn reference(&self, memory: &mut Memory<'_>) {
                match self { $(Op::$op(op) => op.reference(memory),)* }
            }
        }

        $(
            impl From<$op> for Op {
                fn from(op: $op) -> Op {
                    Op::$op(op)
                }
            }
        )*
    };
}

kernels!(declare_op);

impl Op {
    /// The name of the first form used by this kernel that `precision` excludes, if any.
    pub fn missing_form(&self, precision: &Precision) -> Option<&'static str> {
        let (shared_mean, fused, rounded_qkv, rounded_rows) = match self {
            Op::Linear(op) => (op.shared_mean.is_some(), matches!(op.epilogue, Epilogue::Swiglu { .. }), false, false),
            Op::NormModulate(op) => (op.shared_mean.is_some(), false, false, false),
            // The rotation is SwiGLU's, but where that is the epilogue of a linear layer.
            Op::QuantizeRows(op) => (op.shared_mean.is_some(), op.rotated, false, op.x.dtype.size() == 2),
            Op::QkNormRope(op) => (false, false, op.out.is_some(), false),
            Op::Attention(op) => (false, false, op.is_rounded(), false),
            Op::GatherRows(op) => (false, false, op.out.dtype.size() == 2, false),
            _ => (false, false, false, false),
        };
        let missing = [
            (shared_mean && !precision.centred, "centred activations"),
            (fused && !precision.fused_swiglu, "fused SwiGLU"),
            (rounded_qkv && !precision.rounded_qkv, "queries, keys and values in bf16"),
            (rounded_rows && !precision.rounded_rows, "int8 rows made of bf16"),
        ];
        missing.into_iter().find_map(|(is_missing, form)| is_missing.then_some(form))
    }
}
