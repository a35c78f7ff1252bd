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
pub(crate) mod qk_norm_rope;
pub(crate) mod quantize_rows;
pub(crate) mod rms_norm;
pub(crate) mod solver_step;
pub(crate) mod swiglu;
pub(crate) mod unpatchify;

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
