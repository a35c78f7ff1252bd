//! The compiled kernels: `vulkan/spirv`, written from `vulkan/shaders` by `cargo xtask generate`.

/// Declares the kernels: variant, stem of the SPIR-V file, number of bindings, and number of texel buffers among them.
macro_rules! shaders {
    ($($variant:ident: $stem:literal, $bindings:literal $(, $texels:literal)?;)*) => {
        /// A compiled kernel. Several may be variants of one source.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Shader {
            $($variant,)*
        }

        impl Shader {
            #[cfg(test)]
            pub(crate) const ALL: &[Shader] = &[$(Shader::$variant),*];

            /// The SPIR-V, as bytes.
            pub(crate) fn code(self) -> &'static [u8] {
                match self {
                    $(Shader::$variant => include_bytes!(concat!("../spirv/", $stem, ".spv")),)*
                }
            }

            /// The name of its SPIR-V file.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Shader::$variant => $stem,)* }
            }

            /// Number of its bindings, counted from 0: texel buffers, then storage buffers.
            pub(crate) const fn bindings(self) -> u32 {
                match self { $(Shader::$variant => $bindings,)* }
            }

            /// Number of texel buffers among them.
            pub(crate) const fn texels(self) -> u32 {
                match self { $(Shader::$variant => 0 $(+ $texels)?,)* }
            }
        }
    };
}

shaders! {
    Attention: "attention", 4;
    AttentionMatrix: "attention_matrix", 4;
    AttentionTexel: "attention_texel", 4, 3;
    CausalAttention: "causal_attention", 5;
    ClassCondition: "class_condition", 4;
    ContextTokens: "context_tokens", 4;
    DequantizeBlocks: "dequantize_blocks", 2;
    GatherRows: "gather_rows", 3;
    LayerNorm: "layer_norm", 3;
    Linear: "linear", 6;
    LinearFp16: "linear.fp16", 6;
    LinearPacked: "linear.packed", 6;
    LinearInt8: "linear_int8", 8;
    LinearInt8Dot: "linear_int8.dot", 8;
    LinearMatrix: "linear_matrix", 6;
    LinearMatrixBf16: "linear_matrix.bf16", 6;
    LinearMatrixInt8: "linear_matrix.int8", 8;
    LinearTexel: "linear_texel", 8, 2;
    NormModulate: "norm_modulate", 6;
    Patchify: "patchify", 2;
    QkNormRope: "qk_norm_rope", 4;
    QuantizeRows: "quantize_rows", 3;
    RmsNorm: "rms_norm", 5;
    SolverStep: "solver_step", 5;
    Swiglu: "swiglu", 3;
    Unpatchify: "unpatchify", 2;
}
