//! The host half of each kernel: bindings and arguments, one file per kernel, with the same stem as its shader and
//! twins.

pub(crate) mod attention;
pub(crate) mod attention_matrix;
pub(crate) mod attention_texel;
pub(crate) mod causal_attention;
pub(crate) mod class_condition;
pub(crate) mod context_tokens;
pub(crate) mod cut;
pub(crate) mod dequantize_blocks;
pub(crate) mod gather_rows;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod linear_matrix;
pub(crate) mod linear_texel;
pub(crate) mod norm_modulate;
pub(crate) mod patchify;
pub(crate) mod qk_norm_rope;
pub(crate) mod quantize_rows;
pub(crate) mod rms_norm;
pub(crate) mod solver_step;
pub(crate) mod swiglu;
pub(crate) mod unpatchify;
