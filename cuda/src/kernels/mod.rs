//! The host half of each kernel: arguments and grids, one file per kernel, with the same stem as its source and twins.

pub(crate) mod attention;
pub(crate) mod causal_attention;
pub(crate) mod class_condition;
pub(crate) mod context_tokens;
pub(crate) mod dequantize_blocks;
pub(crate) mod gather_rows;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod norm_modulate;
pub(crate) mod patchify;
pub(crate) mod pixels;
pub(crate) mod qk_norm_rope;
pub(crate) mod quantize_rows;
pub(crate) mod rms_norm;
pub(crate) mod solver_step;
pub(crate) mod swiglu;
pub(crate) mod unpatchify;

use denoir_core::ops::Op;

use crate::Error;
use crate::launch::Target;

/// Launches a kernel on a target.
pub(crate) fn launch(on: &mut dyn Target, op: &Op) -> Result<(), Error> {
    match op {
        Op::Linear(op) => linear::launch(on, op),
        Op::ClassCondition(op) => class_condition::launch(on, op),
        Op::ContextTokens(op) => context_tokens::launch(on, op),
        Op::Patchify(op) => patchify::launch(on, op),
        Op::Unpatchify(op) => unpatchify::launch(on, op),
        Op::NormModulate(op) => norm_modulate::launch(on, op),
        Op::RmsNorm(op) => rms_norm::launch(on, op),
        Op::LayerNorm(op) => layer_norm::launch(on, op),
        Op::QkNormRope(op) => qk_norm_rope::launch(on, op),
        Op::Attention(op) => attention::launch(on, op),
        Op::CausalAttention(op) => causal_attention::launch(on, op),
        Op::Swiglu(op) => swiglu::launch(on, op),
        Op::QuantizeRows(op) => quantize_rows::launch(on, op),
        Op::GatherRows(op) => gather_rows::launch(on, op),
        Op::DequantizeBlocks(op) => dequantize_blocks::launch(on, op),
        Op::SolverStep(op) => solver_step::launch(on, op),
    }
}

/// Every kernel.
#[cfg(test)]
pub(crate) fn all() -> Vec<crate::modules::Kernel> {
    let mut all = vec![
        causal_attention::KERNEL,
        class_condition::KERNEL,
        context_tokens::KERNEL,
        dequantize_blocks::KERNEL,
        gather_rows::KERNEL,
        layer_norm::KERNEL,
        norm_modulate::KERNEL,
        patchify::KERNEL,
        pixels::KERNEL,
        qk_norm_rope::KERNEL,
        quantize_rows::KERNEL,
        rms_norm::KERNEL,
        solver_step::KERNEL,
        swiglu::KERNEL,
        unpatchify::KERNEL,
    ];
    all.extend(attention::KERNELS.into_iter().flat_map(|(_, kernels)| kernels));
    all.extend(linear::kernels());
    all
}
