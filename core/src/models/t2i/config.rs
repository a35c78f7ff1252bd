use crate::gguf::{Gguf, keys};
use crate::models::error::ModelError;
use crate::models::jit::MAX_DEPTH;
use crate::models::patches::Patches;
use crate::ops::MAX_HEAD_DIM;

/// Sizes of a text-to-image network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct T2iConfig {
    /// Height and width of the image in pixels.
    pub input_size: usize,
    /// Pixels per patch side.
    pub patch_size: usize,
    /// Colour channels.
    pub channels: usize,
    /// Width of the residual streams.
    pub hidden: usize,
    /// Number of image blocks.
    pub depth: usize,
    /// Number of text blocks.
    pub text_depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the SwiGLU between its two linear layers.
    pub ffn_hidden: usize,
    /// Width of the patch embedding's bottleneck.
    pub bottleneck: usize,
    /// Text tokens, padding included.
    pub text_length: usize,
    /// Width of a text token's embedding.
    pub text_width: usize,
}

/// Maximum number of text blocks that a network may have.
pub(super) const MAX_TEXT_DEPTH: usize = 16;

impl T2iConfig {
    /// Reads and checks the hyper-parameters of a model file.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing key or the invalid value.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<T2iConfig, ModelError> {
        use keys::t2i::*;
        let size = |key: &'static str| gguf.u32(key).map(|v| v as usize);
        let config = T2iConfig {
            input_size: size(INPUT_SIZE)?,
            patch_size: size(PATCH_SIZE)?,
            channels: size(IN_CHANNELS)?,
            hidden: size(EMBEDDING_LENGTH)?,
            depth: size(BLOCK_COUNT)?,
            text_depth: size(TEXT_BLOCK_COUNT)?,
            heads: size(HEAD_COUNT)?,
            ffn_hidden: size(FEED_FORWARD_LENGTH)?,
            bottleneck: size(BOTTLENECK_LENGTH)?,
            text_length: size(TEXT_LENGTH)?,
            text_width: size(TEXT_EMBEDDING_LENGTH)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the sizes are valid. The bounds also keep every later product within 64 bits.
    ///
    /// # Errors
    /// [`ModelError::Config`], naming the key.
    pub fn check(&self) -> Result<(), ModelError> {
        use keys::t2i::*;
        let require = |ok: bool, key: &'static str, rule: &'static str| {
            if ok { Ok(()) } else { Err(ModelError::Config { key, rule }) }
        };
        require((1..=512).contains(&self.patch_size), PATCH_SIZE, "must be 1 to 512")?;
        require((1..=8192).contains(&self.input_size), INPUT_SIZE, "must be 1 to 8192")?;
        require(self.input_size.is_multiple_of(self.patch_size), INPUT_SIZE, "must be a multiple of the patch size")?;
        require(self.grid() <= 256, INPUT_SIZE, "must be at most 256 patches")?;
        require((1..=16).contains(&self.channels), IN_CHANNELS, "must be 1 to 16")?;
        require((1..=16_384).contains(&self.hidden), EMBEDDING_LENGTH, "must be 1 to 16384")?;
        require((1..=MAX_DEPTH).contains(&self.depth), BLOCK_COUNT, "must be 1 to 64")?;
        require(self.text_depth <= MAX_TEXT_DEPTH, TEXT_BLOCK_COUNT, "must be at most 16")?;
        require(
            self.heads > 0 && self.hidden.is_multiple_of(self.heads),
            HEAD_COUNT,
            "must divide the embedding length",
        )?;
        let head_dim = self.head_dim();
        require(
            head_dim.is_multiple_of(4) && head_dim <= MAX_HEAD_DIM,
            HEAD_COUNT,
            "must give heads of 4 to 128 channels, a multiple of 4",
        )?;
        require((1..=65_536).contains(&self.ffn_hidden), FEED_FORWARD_LENGTH, "must be 1 to 65536")?;
        require((1..=16_384).contains(&self.bottleneck), BOTTLENECK_LENGTH, "must be 1 to 16384")?;
        require((1..=4096).contains(&self.text_length), TEXT_LENGTH, "must be 1 to 4096")?;
        require((1..=16_384).contains(&self.text_width), TEXT_EMBEDDING_LENGTH, "must be 1 to 16384")
    }

    /// Patches per side.
    pub const fn grid(&self) -> usize {
        self.input_size / self.patch_size
    }

    /// Patches per image.
    pub const fn image_tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Values of a patch.
    pub const fn patch_values(&self) -> usize {
        self.channels * self.patch_size * self.patch_size
    }

    /// The division of an image into patches.
    pub(crate) const fn patches(&self) -> Patches {
        Patches { grid: self.grid(), size: self.patch_size }
    }

    /// Values of an image.
    pub const fn pixels(&self) -> usize {
        self.channels * self.input_size * self.input_size
    }

    /// Values of a text.
    pub const fn text_values(&self) -> usize {
        self.text_length * self.text_width
    }

    /// Channels of a head.
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Width of the modulation table: six vectors per text block, then six per image block.
    pub const fn modulation_width(&self) -> usize {
        6 * (self.text_depth + self.depth) * self.hidden
    }

    /// Floating-point operations of one evaluation of one image with its text, without adaLN; a multiply-add counts as
    /// two.
    pub fn flop(&self) -> u64 {
        let (h, n, text) = (self.hidden as u64, self.image_tokens() as u64, self.text_length as u64);
        let matrices = 4 * h * h + 3 * h * self.ffn_hidden as u64;
        let text_block = 2 * text * matrices + 4 * text * text * h;
        let image_block = 2 * n * matrices + 2 * text * 2 * h * h + 4 * n * (n + text) * h;
        let values = self.patch_values() as u64;
        let ends = 2 * n * ((values + h) * self.bottleneck as u64 + values * h) + 2 * text * h * self.text_width as u64;
        self.text_depth as u64 * text_block + self.depth as u64 * image_block + ends
    }
}
