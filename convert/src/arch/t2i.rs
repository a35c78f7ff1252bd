//! Text-to-image PixelGen-XXL.

use denoir_core::gguf::keys::{self, t2i};

use super::{Network, Spec, Table, agree, count_blocks, grid_side, head_count, narrow, shape, wrong};
use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::ConvertError;

/// Width of the sinusoidal timestep embedding.
const TIMESTEP_WIDTH: u64 = 256;
/// Image channels where the configuration does not say: the patch embedding is a plain matrix here, so channels and
/// patch size cannot be told apart by shape.
const CHANNELS: u64 = 3;

struct Sizes {
    /// Values of a patch: channels x patch x patch.
    patch_values: u64,
    tokens: u64,
    hidden: u64,
    depth: u64,
    text_depth: u64,
    head_dim: u64,
    ffn: u64,
    bottleneck: u64,
    /// Text tokens.
    text_len: u64,
    /// Width of a text embedding.
    text_width: u64,
}

pub(super) fn read(tensors: &Tensors<'_>, config: &Config) -> Result<Network, ConvertError> {
    let sizes = Sizes::of(tensors)?;
    let side = grid_side(sizes.tokens, "pos_embed", &[1, sizes.tokens, sizes.hidden])?;
    let heads = head_count(sizes.hidden, sizes.head_dim, "blocks.0.attn.q_norm.weight")?;
    let channels = config.size("in_channels").filter(|c| *c != 0).unwrap_or(CHANNELS);
    let patch = (sizes.patch_values / channels).isqrt();
    if patch.saturating_mul(patch).checked_mul(channels) != Some(sizes.patch_values) {
        let wanted = format!("a square patch of {channels} channels");
        return Err(wrong("x_embedder.proj1.weight", &[sizes.bottleneck, sizes.patch_values], wanted));
    }
    let input_size = side.saturating_mul(patch);
    agree(
        config,
        &[
            ("input_size", input_size),
            ("patch_size", patch),
            ("hidden_size", sizes.hidden),
            ("num_groups", heads),
            ("num_blocks", sizes.depth),
            ("num_text_blocks", sizes.text_depth),
            ("txt_embed_dim", sizes.text_width),
            ("txt_max_length", sizes.text_len),
            ("bottleneck_dim", sizes.bottleneck),
        ],
    )?;
    let metadata = narrow(&[
        (t2i::INPUT_SIZE, input_size),
        (t2i::PATCH_SIZE, patch),
        (t2i::IN_CHANNELS, channels),
        (t2i::EMBEDDING_LENGTH, sizes.hidden),
        (t2i::BLOCK_COUNT, sizes.depth),
        (t2i::TEXT_BLOCK_COUNT, sizes.text_depth),
        (t2i::HEAD_COUNT, heads),
        (t2i::FEED_FORWARD_LENGTH, sizes.ffn),
        (t2i::BOTTLENECK_LENGTH, sizes.bottleneck),
        (t2i::TEXT_LENGTH, sizes.text_len),
        (t2i::TEXT_EMBEDDING_LENGTH, sizes.text_width),
    ])?;
    Ok(Network {
        architecture: keys::ARCH_T2I,
        sizes: metadata,
        specs: sizes.table(),
        depth: sizes.depth,
        hidden: sizes.hidden,
        input_size,
        patch_size: patch,
        classes: 0,
        bottleneck: true,
    })
}

impl Sizes {
    fn of(tensors: &Tensors<'_>) -> Result<Self, ConvertError> {
        let [one, tokens, hidden] = shape::<3>(tensors, "pos_embed")?;
        if one != 1 {
            return Err(wrong("pos_embed", &[one, tokens, hidden], "one row of tokens"));
        }
        let [bottleneck, patch_values] = shape::<2>(tensors, "x_embedder.proj1.weight")?;
        let [_, text_len, _] = shape::<3>(tensors, "y_pos_embedding")?;
        let [_, text_width] = shape::<2>(tensors, "y_embedder.proj.weight")?;
        let [head_dim] = shape::<1>(tensors, "blocks.0.attn.q_norm.weight")?;
        let [_, ffn] = shape::<2>(tensors, "blocks.0.mlp.w3.weight")?;
        Ok(Sizes {
            patch_values,
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

    /// Every tensor of the network. Products saturate: a shape that large matches nothing.
    fn table(&self) -> Vec<Spec> {
        let h = self.hidden;
        let mut t = Table::default();
        t.keep("pos_embed", &[1, self.tokens, h]);
        t.keep("y_pos_embedding", &[1, self.text_len, h]);
        t.matrix("x_embedder.proj1.weight", &[self.bottleneck, self.patch_values]);
        t.linear("x_embedder.proj2", h, self.bottleneck);
        t.linear("t_embedder.mlp.0", h, TIMESTEP_WIDTH);
        t.linear("t_embedder.mlp.2", h, h);
        t.linear("y_embedder.proj", h, self.text_width);
        t.keep("y_embedder.norm.weight", &[h]);
        for i in 0..self.text_depth {
            let b = format!("text_refine_blocks.{i}");
            t.quantizable(format!("{b}.attn.qkv.weight"), &[h.saturating_mul(3), h]);
            self.rest_of_block(&mut t, &b);
        }
        for i in 0..self.depth {
            let b = format!("blocks.{i}");
            t.quantizable(format!("{b}.attn.qkv_x.weight"), &[h.saturating_mul(3), h]);
            t.quantizable(format!("{b}.attn.kv_y.weight"), &[h.saturating_mul(2), h]);
            self.rest_of_block(&mut t, &b);
        }
        t.linear("final_layer.linear", self.patch_values, h);
        t.0
    }

    /// What image and text blocks share.
    fn rest_of_block(&self, t: &mut Table, b: &str) {
        let h = self.hidden;
        t.keep(format!("{b}.norm1.weight"), &[h]);
        t.keep(format!("{b}.attn.q_norm.weight"), &[self.head_dim]);
        t.keep(format!("{b}.attn.k_norm.weight"), &[self.head_dim]);
        t.quantizable(format!("{b}.attn.proj.weight"), &[h, h]);
        t.keep(format!("{b}.attn.proj.bias"), &[h]);
        t.keep(format!("{b}.norm2.weight"), &[h]);
        t.quantizable(format!("{b}.mlp.w12.weight"), &[self.ffn.saturating_mul(2), h]);
        t.quantizable(format!("{b}.mlp.w3.weight"), &[h, self.ffn]);
        t.linear(&format!("{b}.adaLN_modulation.0"), h.saturating_mul(6), h);
    }
}
