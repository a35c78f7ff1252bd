use crate::gguf::{Gguf, keys};
use crate::models::error::ModelError;
use crate::ops::MAX_HEAD_DIM;

/// Sizes of a Qwen3 network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Qwen3Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Width of the SwiGLU between its linear layers.
    pub ffn_hidden: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// RMSNorm's epsilon.
    pub eps: f32,
    /// Base of the rotary embedding's frequencies.
    pub rope_base: f64,
}

/// Maximum number of layers that a network may have.
pub(super) const MAX_DEPTH: usize = 64;

impl Qwen3Config {
    /// Reads and checks the hyper-parameters of a model file.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing key or the invalid value.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Qwen3Config, ModelError> {
        use keys::qwen3::*;
        let size = |key: &'static str| gguf.u32(key).map(|v| v as usize);
        let embeddings = gguf.tensor(TOKEN_EMBEDDING)?.dims;
        let config = Qwen3Config {
            hidden: size(EMBEDDING_LENGTH)?,
            depth: size(BLOCK_COUNT)?,
            heads: size(HEAD_COUNT)?,
            kv_heads: size(HEAD_COUNT_KV)?,
            head_dim: size(KEY_LENGTH)?,
            ffn_hidden: size(FEED_FORWARD_LENGTH)?,
            vocabulary: embeddings.first().copied().unwrap_or(0),
            eps: gguf.f32(RMS_EPSILON)?,
            rope_base: gguf.f32(ROPE_BASE)?.into(),
        };
        if gguf.string(ROPE_SCALING).is_ok_and(|kind| kind != "none") {
            return Err(ModelError::Config { key: ROPE_SCALING, rule: "must be none" });
        }
        config.check()?;
        Ok(config)
    }

    /// Checks that the sizes are valid. The bounds also keep every later product within 64 bits.
    ///
    /// # Errors
    /// [`ModelError::Config`], naming the key.
    pub fn check(&self) -> Result<(), ModelError> {
        use keys::qwen3::*;
        let require = |ok: bool, key: &'static str, rule: &'static str| {
            if ok { Ok(()) } else { Err(ModelError::Config { key, rule }) }
        };
        require((1..=16_384).contains(&self.hidden), EMBEDDING_LENGTH, "must be 1 to 16384")?;
        require((1..=MAX_DEPTH).contains(&self.depth), BLOCK_COUNT, "must be 1 to 64")?;
        require((1..=256).contains(&self.heads), HEAD_COUNT, "must be 1 to 256")?;
        require(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            HEAD_COUNT_KV,
            "must divide the head count",
        )?;
        require(
            self.head_dim.is_multiple_of(2) && (2..=MAX_HEAD_DIM).contains(&self.head_dim),
            KEY_LENGTH,
            "must be 2 to 128, an even number",
        )?;
        require((1..=65_536).contains(&self.ffn_hidden), FEED_FORWARD_LENGTH, "must be 1 to 65536")?;
        require((1..=1 << 20).contains(&self.vocabulary), TOKEN_EMBEDDING, "must have 1 to 1048576 rows")?;
        require(self.eps.is_finite() && self.eps >= 0.0, RMS_EPSILON, "must be a number from 0")?;
        require(self.rope_base.is_finite() && self.rope_base > 1.0, ROPE_BASE, "must be a number above 1")
    }

    /// Total columns of queries, keys and values.
    pub const fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Columns of the queries, and of attention's output.
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the keys.
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
