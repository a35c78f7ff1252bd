//! Class-conditional JiT and PixelGen-L/XL.

use denoir_core::gguf::keys::{self, jit};

use super::network::{
    NetworkSpec, Table, TensorSpec, agree, count_blocks, grid_side, head_count, narrow, shape, wrong,
};
use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::ConvertError;

/// Width of the sinusoidal timestep embedding.
const TIMESTEP_WIDTH: u64 = 256;
/// (blocks, first block with context tokens) of the published models.
const CONTEXT_START: [(u64, u64); 4] = [(12, 4), (24, 8), (28, 8), (32, 10)];

/// The sizes derived from the shapes of the tensors.
pub(crate) struct Sizes {
    /// Image channels.
    pub(crate) channels: u64,
    pub(crate) patch: u64,
    /// Image tokens.
    pub(crate) tokens: u64,
    pub(crate) hidden: u64,
    pub(crate) depth: u64,
    pub(crate) head_dim: u64,
    /// Hidden width of the SwiGLU.
    pub(crate) ffn: u64,
    pub(crate) classes: u64,
    /// Width between the two patch projections; 0 for one projection.
    pub(crate) bottleneck: u64,
    /// Context tokens.
    pub(crate) context: u64,
}

pub(super) fn read(tensors: &Tensors<'_>, config: &Config) -> Result<NetworkSpec, ConvertError> {
    let sizes = Sizes::of(tensors)?;
    grid_side(sizes.tokens, "pos_embed", &[1, sizes.tokens, sizes.hidden])?;
    let heads = head_count(sizes.hidden, sizes.head_dim, "blocks.0.attn.q_norm.weight")?;
    agree(
        config,
        &[
            ("input_size", sizes.input_size()),
            ("patch_size", sizes.patch),
            ("in_channels", sizes.channels),
            ("hidden_size", sizes.hidden),
            ("depth", sizes.depth),
            ("num_heads", heads),
            ("num_classes", sizes.classes),
            ("in_context_len", sizes.context),
        ],
    )?;
    sizes.agree_on_bottleneck(config)?;
    sizes.network(heads, sizes.context_start(config)?)
}

impl Sizes {
    fn of(tensors: &Tensors<'_>) -> Result<Self, ConvertError> {
        let [one, tokens, hidden] = shape::<3>(tensors, "pos_embed")?;
        let proj1 = "x_embedder.proj1.weight";
        let [width, channels, patch, patch_w] = shape::<4>(tensors, proj1)?;
        let [labels, _] = shape::<2>(tensors, "y_embedder.embedding_table.weight")?;
        let [head_dim] = shape::<1>(tensors, "blocks.0.attn.q_norm.weight")?;
        let [_, ffn] = shape::<2>(tensors, "blocks.0.mlp.w3.weight")?;
        if one != 1 {
            return Err(wrong("pos_embed", &[one, tokens, hidden], "one row of tokens"));
        }
        if patch != patch_w {
            return Err(wrong(proj1, &[width, channels, patch, patch_w], "a square patch"));
        }
        let context = match tensors.contains_key("in_context_posemb") {
            true => shape::<3>(tensors, "in_context_posemb")?[1],
            false => 0,
        };
        Ok(Sizes {
            channels,
            patch,
            tokens,
            hidden,
            depth: count_blocks(tensors, "blocks", "attn.qkv.weight"),
            head_dim,
            ffn,
            classes: labels - 1,
            bottleneck: if tensors.contains_key("x_embedder.proj2.weight") { width } else { 0 },
            context,
        })
    }

    /// The network of `heads` heads whose context tokens join before block `start`.
    pub(crate) fn network(&self, heads: u64, start: u64) -> Result<NetworkSpec, ConvertError> {
        let input_size = self.input_size();
        let metadata = narrow(&[
            (jit::INPUT_SIZE, input_size),
            (jit::PATCH_SIZE, self.patch),
            (jit::IN_CHANNELS, self.channels),
            (jit::EMBEDDING_LENGTH, self.hidden),
            (jit::BLOCK_COUNT, self.depth),
            (jit::HEAD_COUNT, heads),
            (jit::FEED_FORWARD_LENGTH, self.ffn),
            (jit::CLASS_COUNT, self.classes),
            (jit::BOTTLENECK_LENGTH, self.bottleneck),
            (jit::CONTEXT_TOKEN_COUNT, self.context),
            (jit::CONTEXT_START_BLOCK, start),
        ])?;
        Ok(NetworkSpec {
            architecture: keys::ARCH_JIT,
            sizes: metadata,
            specs: self.table(),
            depth: self.depth,
            hidden: self.hidden,
            input_size,
            patch_size: self.patch,
            classes: self.classes,
            bottleneck: self.bottleneck != 0,
        })
    }

    /// Pixels per side of an image.
    fn input_size(&self) -> u64 {
        self.tokens.isqrt().saturating_mul(self.patch)
    }

    /// `use_bottleneck` and `bottleneck_dim` of the configuration; the latter has a default upstream, so it says
    /// nothing about a network without a bottleneck.
    fn agree_on_bottleneck(&self, config: &Config) -> Result<(), ConvertError> {
        let has = self.bottleneck != 0;
        if let Some(said) = config.use_bottleneck.filter(|said| *said != has) {
            let (config, checkpoint) = (said.to_string(), has.to_string());
            return Err(ConvertError::Contradiction { key: "use_bottleneck", config, checkpoint });
        }
        if has { agree(config, &[("bottleneck_dim", self.bottleneck)]) } else { Ok(()) }
    }

    fn context_start(&self, config: &Config) -> Result<u64, ConvertError> {
        if self.context == 0 {
            return Ok(0);
        }
        let published = || CONTEXT_START.iter().find(|(depth, _)| *depth == self.depth).map(|(_, start)| *start);
        let start = config.size("in_context_start").or_else(published);
        let start = start.ok_or(ConvertError::ContextStart { depth: self.depth })?;
        if start >= self.depth {
            return Err(ConvertError::Contradiction {
                key: "in_context_start",
                config: start.to_string(),
                checkpoint: format!("{} blocks", self.depth),
            });
        }
        Ok(start)
    }

    /// Every tensor of the network. Products saturate: a shape that large matches nothing.
    fn table(&self) -> Vec<TensorSpec> {
        let (h, patch_values) = (self.hidden, self.patch.saturating_mul(self.patch).saturating_mul(self.channels));
        let mut t = Table::default();
        t.keep("pos_embed", &[1, self.tokens, h]);
        if self.context != 0 {
            t.keep("in_context_posemb", &[1, self.context, h]);
        }
        t.linear("t_embedder.mlp.0", h, TIMESTEP_WIDTH);
        t.linear("t_embedder.mlp.2", h, h);
        t.matrix("y_embedder.embedding_table.weight", &[self.classes.saturating_add(1), h]);
        if self.bottleneck != 0 {
            t.matrix("x_embedder.proj1.weight", &[self.bottleneck, self.channels, self.patch, self.patch]);
            t.matrix("x_embedder.proj2.weight", &[h, self.bottleneck, 1, 1]);
            t.keep("x_embedder.proj2.bias", &[h]);
        } else {
            t.matrix("x_embedder.proj1.weight", &[h, self.channels, self.patch, self.patch]);
            t.keep("x_embedder.proj1.bias", &[h]);
        }
        for i in 0..self.depth {
            self.block(&mut t, &format!("blocks.{i}"));
        }
        t.keep("final_layer.norm_final.weight", &[h]);
        t.linear("final_layer.linear", patch_values, h);
        t.linear("final_layer.adaLN_modulation.1", h.saturating_mul(2), h);
        t.0
    }

    fn block(&self, t: &mut Table, b: &str) {
        let (h, ffn2) = (self.hidden, self.ffn.saturating_mul(2));
        t.keep(format!("{b}.norm1.weight"), &[h]);
        t.keep(format!("{b}.attn.q_norm.weight"), &[self.head_dim]);
        t.keep(format!("{b}.attn.k_norm.weight"), &[self.head_dim]);
        t.centred(format!("{b}.attn.qkv.weight"), &[h.saturating_mul(3), h]);
        t.keep(format!("{b}.attn.qkv.bias"), &[h.saturating_mul(3)]);
        t.centred(format!("{b}.attn.proj.weight"), &[h, h]);
        t.keep(format!("{b}.attn.proj.bias"), &[h]);
        t.keep(format!("{b}.norm2.weight"), &[h]);
        t.centred(format!("{b}.mlp.w12.weight"), &[ffn2, h]);
        t.keep(format!("{b}.mlp.w12.bias"), &[ffn2]);
        t.rotatable(format!("{b}.mlp.w3.weight"), &[h, self.ffn]);
        t.keep(format!("{b}.mlp.w3.bias"), &[h]);
        t.linear(&format!("{b}.adaLN_modulation.1"), h.saturating_mul(6), h);
    }
}
