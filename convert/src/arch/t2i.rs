//! Text-to-image PixelGen-XXL.

use denoir_core::gguf::keys::{self, t2i};

use super::network::{
    NetworkSpec, Table, TensorSpec, agree, count_blocks, grid_side, head_count, narrow, shape, wrong,
};
use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::ConvertError;

/// Width of the sinusoidal timestep embedding.
const TIMESTEP_WIDTH: u64 = 256;
/// Default for image channels: the patch embedding is a plain matrix here, so its shape does not determine both
/// channels and patch size.
const CHANNELS: u64 = 3;

/// The sizes derived from the shapes of the tensors; the channels come from the configuration.
pub(crate) struct Sizes {
    /// Image channels.
    pub(crate) channels: u64,
    pub(crate) patch: u64,
    /// Image tokens.
    pub(crate) tokens: u64,
    pub(crate) hidden: u64,
    pub(crate) depth: u64,
    pub(crate) text_depth: u64,
    pub(crate) head_dim: u64,
    /// Hidden width of the SwiGLU.
    pub(crate) ffn: u64,
    pub(crate) bottleneck: u64,
    /// Text tokens.
    pub(crate) text_len: u64,
    /// Width of a text embedding.
    pub(crate) text_width: u64,
}

pub(super) fn read(tensors: &Tensors<'_>, config: &Config) -> Result<NetworkSpec, ConvertError> {
    let sizes = Sizes::of(tensors, config)?;
    grid_side(sizes.tokens, "pos_embed", &[1, sizes.tokens, sizes.hidden])?;
    let heads = head_count(sizes.hidden, sizes.head_dim, "blocks.0.attn.q_norm.weight")?;
    agree(
        config,
        &[
            ("input_size", sizes.input_size()),
            ("patch_size", sizes.patch),
            ("hidden_size", sizes.hidden),
            ("num_groups", heads),
            ("num_blocks", sizes.depth),
            ("num_text_blocks", sizes.text_depth),
            ("txt_embed_dim", sizes.text_width),
            ("txt_max_length", sizes.text_len),
            ("bottleneck_dim", sizes.bottleneck),
        ],
    )?;
    sizes.network(heads)
}

impl Sizes {
    fn of(tensors: &Tensors<'_>, config: &Config) -> Result<Self, ConvertError> {
        let [one, tokens, hidden] = shape::<3>(tensors, "pos_embed")?;
        if one != 1 {
            return Err(wrong("pos_embed", &[one, tokens, hidden], "one row of tokens"));
        }
        let [bottleneck, patch_values] = shape::<2>(tensors, "x_embedder.proj1.weight")?;
        let [_, text_len, _] = shape::<3>(tensors, "y_pos_embedding")?;
        let [_, text_width] = shape::<2>(tensors, "y_embedder.proj.weight")?;
        let [head_dim] = shape::<1>(tensors, "blocks.0.attn.q_norm.weight")?;
        let [_, ffn] = shape::<2>(tensors, "blocks.0.mlp.w3.weight")?;
        let channels = config.size("in_channels").filter(|c| *c != 0).unwrap_or(CHANNELS);
        let patch = (patch_values / channels).isqrt();
        if patch.saturating_mul(patch).checked_mul(channels) != Some(patch_values) {
            let wanted = format!("a square patch of {channels} channels");
            return Err(wrong("x_embedder.proj1.weight", &[bottleneck, patch_values], wanted));
        }
        Ok(Sizes {
            channels,
            patch,
            tokens,
            hidden,
            depth: count_blocks(tensors, "blocks", "attn.qkv_x.weight"),
            text_depth: count_blocks(tensors, "text_refine_blocks", "attn.qkv.weight"),
            head_dim,
            ffn,
            bottleneck,
            text_len,
            text_width,
        })
    }

    /// Height and width of an image.
    fn input_size(&self) -> u64 {
        self.tokens.isqrt().saturating_mul(self.patch)
    }

    /// The network of these sizes.
    pub(crate) fn network(&self, heads: u64) -> Result<NetworkSpec, ConvertError> {
        let sizes = narrow(&[
            (t2i::INPUT_SIZE, self.input_size()),
            (t2i::PATCH_SIZE, self.patch),
            (t2i::IN_CHANNELS, self.channels),
            (t2i::EMBEDDING_LENGTH, self.hidden),
            (t2i::BLOCK_COUNT, self.depth),
            (t2i::TEXT_BLOCK_COUNT, self.text_depth),
            (t2i::HEAD_COUNT, heads),
            (t2i::FEED_FORWARD_LENGTH, self.ffn),
            (t2i::BOTTLENECK_LENGTH, self.bottleneck),
            (t2i::TEXT_LENGTH, self.text_len),
            (t2i::TEXT_EMBEDDING_LENGTH, self.text_width),
        ])?;
        Ok(NetworkSpec {
            architecture: keys::ARCH_T2I,
            sizes,
            specs: self.table(),
            depth: self.depth,
            hidden: self.hidden,
            input_size: self.input_size(),
            patch_size: self.patch,
            classes: 0,
            bottleneck: true,
        })
    }

    /// Every tensor of the network. Products saturate: a shape that large matches nothing.
    fn table(&self) -> Vec<TensorSpec> {
        let (h, patch_values) = (self.hidden, self.patch.saturating_mul(self.patch).saturating_mul(self.channels));
        let mut t = Table::default();
        t.keep("pos_embed", &[1, self.tokens, h]);
        t.keep("y_pos_embedding", &[1, self.text_len, h]);
        t.matrix("x_embedder.proj1.weight", &[self.bottleneck, patch_values]);
        t.linear("x_embedder.proj2", h, self.bottleneck);
        t.linear("t_embedder.mlp.0", h, TIMESTEP_WIDTH);
        t.linear("t_embedder.mlp.2", h, h);
        t.linear("y_embedder.proj", h, self.text_width);
        t.keep("y_embedder.norm.weight", &[h]);
        for i in 0..self.text_depth {
            let b = format!("text_refine_blocks.{i}");
            t.centred(format!("{b}.attn.qkv.weight"), &[h.saturating_mul(3), h]);
            self.rest_of_block(&mut t, &b);
        }
        for i in 0..self.depth {
            let b = format!("blocks.{i}");
            t.centred(format!("{b}.attn.qkv_x.weight"), &[h.saturating_mul(3), h]);
            t.quantizable(format!("{b}.attn.kv_y.weight"), &[h.saturating_mul(2), h]);
            self.rest_of_block(&mut t, &b);
        }
        t.linear("final_layer.linear", patch_values, h);
        t.0
    }

    /// Tensors common to image and text blocks.
    fn rest_of_block(&self, t: &mut Table, b: &str) {
        let h = self.hidden;
        t.keep(format!("{b}.norm1.weight"), &[h]);
        t.keep(format!("{b}.attn.q_norm.weight"), &[self.head_dim]);
        t.keep(format!("{b}.attn.k_norm.weight"), &[self.head_dim]);
        t.centred(format!("{b}.attn.proj.weight"), &[h, h]);
        t.keep(format!("{b}.attn.proj.bias"), &[h]);
        t.keep(format!("{b}.norm2.weight"), &[h]);
        t.centred(format!("{b}.mlp.w12.weight"), &[self.ffn.saturating_mul(2), h]);
        t.rotatable(format!("{b}.mlp.w3.weight"), &[h, self.ffn]);
        t.linear(&format!("{b}.adaLN_modulation.0"), h.saturating_mul(6), h);
    }
}
