//! The metadata keys of a denoir model file, and their string values.
//!
//! The converter and the configuration reader both use these constants. Counts and sizes are u32, names are strings and
//! sampler numbers are f32, unless noted otherwise.

/// `jit` or `pixelgen-t2i`: the network, and the prefix of its hyper-parameters.
pub const ARCHITECTURE: &str = "general.architecture";
/// Human-readable model name.
pub const NAME: &str = "general.name";
/// Alignment of tensor data in bytes, a power of two.
pub const ALIGNMENT: &str = "general.alignment";
/// ggml's code of the prevailing tensor type: 0 f32, 1 f16, 32 bf16. Absent for int8, which has no code.
pub const FILE_TYPE: &str = "general.file_type";
/// Version of the quantisation format; present for int8 only.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// Class-conditional JiT and PixelGen.
pub const ARCH_JIT: &str = "jit";
/// Text-to-image PixelGen.
pub const ARCH_T2I: &str = "pixelgen-t2i";

/// Qwen3, the text encoder.
pub const ARCH_QWEN3: &str = "qwen3";

/// Hyper-parameters of [`ARCH_JIT`].
pub mod jit {
    /// Image height and width in pixels.
    pub const INPUT_SIZE: &str = "jit.input_size";
    /// Patch height and width in pixels.
    pub const PATCH_SIZE: &str = "jit.patch_size";
    /// Image channels.
    pub const IN_CHANNELS: &str = "jit.in_channels";
    /// Hidden width.
    pub const EMBEDDING_LENGTH: &str = "jit.embedding_length";
    /// Transformer blocks.
    pub const BLOCK_COUNT: &str = "jit.block_count";
    /// Attention heads.
    pub const HEAD_COUNT: &str = "jit.attention.head_count";
    /// Hidden width of the SwiGLU.
    pub const FEED_FORWARD_LENGTH: &str = "jit.feed_forward_length";
    /// Classes, without the null class; the label equal to this is the null class.
    pub const CLASS_COUNT: &str = "jit.class_count";
    /// Width between the two patch projections; 0 for a single projection.
    pub const BOTTLENECK_LENGTH: &str = "jit.bottleneck_length";
    /// Label tokens placed before the image tokens; 0 for none.
    pub const CONTEXT_TOKEN_COUNT: &str = "jit.context_token_count";
    /// First block that sees the label tokens.
    pub const CONTEXT_START_BLOCK: &str = "jit.context_start_block";
}

/// Hyper-parameters of [`ARCH_T2I`].
pub mod t2i {
    /// Image height and width in pixels.
    pub const INPUT_SIZE: &str = "pixelgen-t2i.input_size";
    /// Patch height and width in pixels.
    pub const PATCH_SIZE: &str = "pixelgen-t2i.patch_size";
    /// Image channels.
    pub const IN_CHANNELS: &str = "pixelgen-t2i.in_channels";
    /// Hidden width.
    pub const EMBEDDING_LENGTH: &str = "pixelgen-t2i.embedding_length";
    /// Image blocks.
    pub const BLOCK_COUNT: &str = "pixelgen-t2i.block_count";
    /// Text refinement blocks.
    pub const TEXT_BLOCK_COUNT: &str = "pixelgen-t2i.text_block_count";
    /// Attention heads.
    pub const HEAD_COUNT: &str = "pixelgen-t2i.attention.head_count";
    /// Hidden width of the SwiGLU.
    pub const FEED_FORWARD_LENGTH: &str = "pixelgen-t2i.feed_forward_length";
    /// Width between the two patch projections.
    pub const BOTTLENECK_LENGTH: &str = "pixelgen-t2i.bottleneck_length";
    /// Text tokens.
    pub const TEXT_LENGTH: &str = "pixelgen-t2i.text_length";
    /// Width of a text embedding.
    pub const TEXT_EMBEDDING_LENGTH: &str = "pixelgen-t2i.text_embedding_length";
}

/// Hyper-parameters and tokenizer of [`ARCH_QWEN3`], as llama.cpp names them.
pub mod qwen3 {
    /// The tensor of token embeddings.
    pub const TOKEN_EMBEDDING: &str = "token_embd.weight";
    /// Layers.
    pub const BLOCK_COUNT: &str = "qwen3.block_count";
    /// Maximum number of tokens of a text.
    pub const CONTEXT_LENGTH: &str = "qwen3.context_length";
    /// Hidden width.
    pub const EMBEDDING_LENGTH: &str = "qwen3.embedding_length";
    /// Hidden width of the SwiGLU.
    pub const FEED_FORWARD_LENGTH: &str = "qwen3.feed_forward_length";
    /// Query heads.
    pub const HEAD_COUNT: &str = "qwen3.attention.head_count";
    /// Key and value heads.
    pub const HEAD_COUNT_KV: &str = "qwen3.attention.head_count_kv";
    /// Channels of a query or key head.
    pub const KEY_LENGTH: &str = "qwen3.attention.key_length";
    /// Channels of a value head.
    pub const VALUE_LENGTH: &str = "qwen3.attention.value_length";
    /// RMSNorm's epsilon (f32).
    pub const RMS_EPSILON: &str = "qwen3.attention.layer_norm_rms_epsilon";
    /// Base of the rotary embedding (f32).
    pub const ROPE_BASE: &str = "qwen3.rope.freq_base";
    /// Scaling of the rotary embedding (string); absent or `none` for no scaling.
    pub const ROPE_SCALING: &str = "qwen3.rope.scaling.type";
}

/// The tokenizer inside a text encoder's file, as llama.cpp names its parts.
pub mod tokenizer {
    /// Kind of tokenizer: `gpt2` is byte-level BPE.
    pub const MODEL: &str = "tokenizer.ggml.model";
    /// The rule that splits text into words: `qwen2`.
    pub const PRE: &str = "tokenizer.ggml.pre";
    /// Tokens in the order of their numbers (strings).
    pub const TOKENS: &str = "tokenizer.ggml.tokens";
    /// Kind of each token: 1 normal, 3 control, 4 user-defined, 5 unused (i32).
    pub const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
    /// Merges in order, each two tokens with a space between (strings).
    pub const MERGES: &str = "tokenizer.ggml.merges";
    /// End of text (u32).
    pub const EOS: &str = "tokenizer.ggml.eos_token_id";
    /// Padding (u32).
    pub const PADDING: &str = "tokenizer.ggml.padding_token_id";
    /// The regular expression with which Qwen2 and Qwen3 split text into words; `qwen2` at [`PRE`] stands for it.
    pub const QWEN2_SPLIT: &str = concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
}

/// Number of channels of SwiGLU's output that are rotated together (16) before `w3`, whose rows are stored rotated to
/// match. Absent if nothing is rotated.
pub const FEED_FORWARD_ROTATION: &str = "denoir.feed_forward_rotation";
/// Type of the matrices, as on the command line: `f32`, `f16`, `bf16` or `int8`.
pub const WEIGHT_TYPE: &str = "denoir.weight_type";
/// Sampling method: one of [`SAMPLER_METHODS`].
pub const SAMPLER_METHOD: &str = "denoir.sampler.method";
/// Steps (u32).
pub const SAMPLER_STEPS: &str = "denoir.sampler.steps";
/// Guidance scale; 1 is no guidance.
pub const SAMPLER_CFG_SCALE: &str = "denoir.sampler.cfg_scale";
/// Lower end of the guidance interval in t.
pub const SAMPLER_GUIDANCE_LO: &str = "denoir.sampler.guidance_lo";
/// Upper end of the guidance interval in t.
pub const SAMPLER_GUIDANCE_HI: &str = "denoir.sampler.guidance_hi";
/// Time shift s in t / (t + (1 - t) s).
pub const SAMPLER_FLOW_SHIFT: &str = "denoir.sampler.flow_shift";
/// Factor on the initial noise.
pub const SAMPLER_NOISE_SCALE: &str = "denoir.sampler.noise_scale";
/// Order of the Adams-Bashforth solver, 1 to 4 (u32).
pub const SAMPLER_ORDER: &str = "denoir.sampler.order";
/// The sampling methods by name.
pub const SAMPLER_METHODS: [&str; 5] = ["euler", "heun", "heun-reuse", "heun-jit", "adams"];
/// 8-bit rounding: `pixelgen` or `jit`.
pub const ROUNDING: &str = "denoir.rounding";
/// The 8-bit roundings by name.
pub const ROUNDINGS: [&str; 2] = ["pixelgen", "jit"];
/// Class names, one string per class; optional.
pub const CLASS_NAMES: &str = "denoir.class_names";
/// File name of the checkpoint, without its folder.
pub const SOURCE_FILE: &str = "denoir.source.file";
/// SHA-256 of the checkpoint in lower-case hexadecimal.
pub const SOURCE_SHA256: &str = "denoir.source.sha256";
/// Suffix of the F32 tensor that holds the scale of each row of an I8 matrix.
pub const SCALE_SUFFIX: &str = "_scale";
/// Suffix of the optional tensor that holds the two-bit residuals of an I8 matrix.
pub const REST_SUFFIX: &str = "_rest";

/// Returns whether a tensor of this name is part of an I8 matrix rather than a weight of its own.
pub fn is_of_matrix(name: &str) -> bool {
    name.ends_with(SCALE_SUFFIX) || name.ends_with(REST_SUFFIX)
}
