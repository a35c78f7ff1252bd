use crate::gguf::{Gguf, keys};
use crate::models::error::ModelError;
use crate::models::patches::Patches;
use crate::ops::MAX_HEAD_DIM;

/// Sizes of a class-conditional network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitConfig {
    /// Height and width of the image in pixels.
    pub input_size: usize,
    /// Pixels per patch side.
    pub patch_size: usize,
    /// Colour channels.
    pub channels: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the SwiGLU between its two linear layers.
    pub ffn_hidden: usize,
    /// Classes; label `classes` is the null class.
    pub classes: usize,
    /// Width of the patch embedding's bottleneck; 0: one biased projection.
    pub bottleneck: usize,
    /// In-context class tokens.
    pub context_tokens: usize,
    /// The block before which the context tokens join.
    pub context_start: usize,
}

/// Maximum number of blocks that a network may have.
pub const MAX_DEPTH: usize = 64;

impl JitConfig {
    /// Reads and checks the hyper-parameters of a model file.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing key or the invalid value.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<JitConfig, ModelError> {
        use keys::jit::*;
        let size = |key: &'static str| gguf.u32(key).map(|v| v as usize);
        let config = JitConfig {
            input_size: size(INPUT_SIZE)?,
            patch_size: size(PATCH_SIZE)?,
            channels: size(IN_CHANNELS)?,
            hidden: size(EMBEDDING_LENGTH)?,
            depth: size(BLOCK_COUNT)?,
            heads: size(HEAD_COUNT)?,
            ffn_hidden: size(FEED_FORWARD_LENGTH)?,
            classes: size(CLASS_COUNT)?,
            bottleneck: size(BOTTLENECK_LENGTH)?,
            context_tokens: size(CONTEXT_TOKEN_COUNT)?,
            context_start: size(CONTEXT_START_BLOCK)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the sizes are valid. The bounds also keep every later product within 64 bits.
    ///
    /// # Errors
    /// [`ModelError::Config`], naming the key.
    pub fn check(&self) -> Result<(), ModelError> {
        use keys::jit::*;
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
        require((1..=1 << 20).contains(&self.classes), CLASS_COUNT, "must be 1 to 1048576")?;
        require(self.bottleneck <= 16_384, BOTTLENECK_LENGTH, "must be at most 16384")?;
        require(self.context_tokens <= 4096, CONTEXT_TOKEN_COUNT, "must be at most 4096")?;
        require(
            self.context_tokens == 0 || self.context_start < self.depth,
            CONTEXT_START_BLOCK,
            "must be below the block count",
        )
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

    /// Channels of a head.
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// The label of the null class.
    pub const fn null_label(&self) -> usize {
        self.classes
    }

    /// Width of the modulation table: six vectors for each block, two for the final layer.
    pub const fn modulation_width(&self) -> usize {
        (6 * self.depth + 2) * self.hidden
    }

    /// Floating-point operations of one evaluation of one image without adaLN; a multiply-add counts as two.
    pub fn flop(&self) -> u64 {
        let (h, n) = (self.hidden as u64, self.image_tokens() as u64);
        let full = n + self.context_tokens as u64;
        let without = if self.context_tokens == 0 { self.depth } else { self.context_start } as u64;
        let with = self.depth as u64 - without;
        let matrices = 4 * h * h + 3 * h * self.ffn_hidden as u64;
        let block = |tokens: u64| 2 * tokens * matrices + 4 * tokens * tokens * h;
        let values = self.patch_values() as u64;
        let embed = match self.bottleneck as u64 {
            0 => values * h,
            bottleneck => (values + h) * bottleneck,
        };
        without * block(n) + with * block(full) + 2 * n * (embed + values * h)
    }
}
