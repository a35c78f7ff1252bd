use core::mem::MaybeUninit;

use heapless::Vec;

use super::config::{MAX_TEXT_DEPTH, T2iConfig};
use crate::gguf::Gguf;
use crate::models::error::ModelError;
use crate::models::jit::MAX_DEPTH;
use crate::models::params::{BlockParams, Dense, GatedPair, Tensors};
use crate::models::patches::PatchEmbedParams;
use crate::models::plan::TIMESTEP_WIDTH;
use crate::{DType, View, Weight};

/// The network's weights as views into the model file, and its sizes.
#[derive(Clone, Debug)]
pub struct T2iModel {
    /// Sizes.
    pub config: T2iConfig,
    /// Bytes of the model file.
    pub file_bytes: usize,
    /// `(hidden, 256)` and bias.
    pub t_mlp0: Dense,
    /// `(hidden, hidden)` and bias.
    pub t_mlp2: Dense,
    /// Patch embedding.
    pub patch_embed: PatchEmbedParams,
    /// `(image tokens, hidden)` f32.
    pub pos_embed: View,
    /// `(hidden, text width)` and bias.
    pub text_proj: Dense,
    /// `(1, hidden)` f32.
    pub text_norm: View,
    /// `(text length, hidden)` f32.
    pub text_position: View,
    /// The text's blocks in order.
    pub text_blocks: Vec<BlockParams, MAX_TEXT_DEPTH>,
    /// The image's blocks in order.
    pub blocks: Vec<JointBlock, MAX_DEPTH>,
    /// `(patch values, hidden)` and bias.
    pub final_linear: Dense,
}

/// An image block: a text block, plus the layer for text keys and values.
#[derive(Clone, Copy, Debug)]
pub struct JointBlock {
    /// The part that processes image tokens.
    pub image: BlockParams,
    /// `(2 · hidden, hidden)`.
    pub kv_y: Dense,
}

impl T2iModel {
    /// Finds every tensor and checks its shape and type.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing or wrong key or tensor.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<T2iModel, ModelError> {
        let mut slot = MaybeUninit::uninit();
        T2iModel::read_into(gguf, &mut slot).cloned()
    }

    /// The same in the caller's memory: a model is large, whatever its depth, and this takes little of the stack.
    ///
    /// # Errors
    /// As [`T2iModel::from_gguf`].
    pub fn read_into<'s>(gguf: &Gguf<'_>, slot: &'s mut MaybeUninit<T2iModel>) -> Result<&'s mut T2iModel, ModelError> {
        let config = T2iConfig::from_gguf(gguf)?;
        let c = &config;
        let file = Tensors::new(gguf)?;
        let h = c.hidden;
        let model = slot.write(T2iModel {
            config,
            file_bytes: gguf.len_bytes(),
            t_mlp0: file.affine(format_args!("t_embedder.mlp.0"), h, TIMESTEP_WIDTH)?,
            t_mlp2: file.affine(format_args!("t_embedder.mlp.2"), h, h)?,
            patch_embed: PatchEmbedParams::read(&file, h, c.bottleneck, c.patch_values())?,
            pos_embed: file.float(format_args!("pos_embed"), c.image_tokens(), h)?,
            text_proj: file.affine(format_args!("y_embedder.proj"), h, c.text_width)?,
            text_norm: file.float(format_args!("y_embedder.norm.weight"), 1, h)?,
            text_position: file.float(format_args!("y_pos_embedding"), c.text_length, h)?,
            text_blocks: Vec::new(),
            blocks: Vec::new(),
            final_linear: file.affine(format_args!("final_layer.linear"), c.patch_values(), h)?,
        });
        // The configuration bounds both depths by the capacities. Pushed where they stay: they are large.
        for i in 0..c.text_depth {
            let _ = model.text_blocks.push(block(&file, c, format_args!("text_refine_blocks.{i}"), "qkv")?);
        }
        for i in 0..c.depth {
            let image = block(&file, c, format_args!("blocks.{i}"), "qkv_x")?;
            let kv_y = file.linear(format_args!("blocks.{i}.attn.kv_y"), 2 * h, h)?;
            let _ = model.blocks.push(JointBlock { image, kv_y });
        }
        Ok(model)
    }

    /// The matrices that every evaluation reads, which a backend may repack. Excludes those of the modulation, which
    /// are read once for many evaluations.
    pub fn matrices(&self) -> impl Iterator<Item = Weight> + Clone {
        let ends = self.patch_embed.matrices().chain([self.text_proj.weight, self.final_linear.weight]);
        let texts = self.text_blocks.iter().flat_map(BlockParams::matrices);
        let images = self.blocks.iter().flat_map(|b| b.image.matrices().chain([b.kv_y.weight]));
        ends.chain(texts).chain(images)
    }

    /// The matrices of the modulation, which are read once for all steps of a chunk.
    pub fn modulation_matrices(&self) -> impl Iterator<Item = &Weight> + Clone {
        self.all_blocks().map(|block| &block.modulation.weight)
    }

    /// The type of most weights, that is of the first block's FFN.
    pub fn weight_type(&self) -> DType {
        self.blocks.first().map_or(DType::F32, |b| b.image.w12.both.weight.data.dtype)
    }

    /// Every block in the order of the modulation table: the text's, then the image's.
    pub fn all_blocks(&self) -> impl Iterator<Item = &BlockParams> + Clone {
        self.text_blocks.iter().chain(self.blocks.iter().map(|b| &b.image))
    }
}

fn block(
    file: &Tensors<'_>,
    c: &T2iConfig,
    at: core::fmt::Arguments<'_>,
    qkv: &str,
) -> Result<BlockParams, ModelError> {
    let (h, head_dim, ffn) = (c.hidden, c.head_dim(), c.ffn_hidden);
    Ok(BlockParams {
        norm1: file.float(format_args!("{at}.norm1.weight"), 1, h)?,
        qkv: file.linear(format_args!("{at}.attn.{qkv}"), 3 * h, h)?,
        q_norm: file.float(format_args!("{at}.attn.q_norm.weight"), 1, head_dim)?,
        k_norm: file.float(format_args!("{at}.attn.k_norm.weight"), 1, head_dim)?,
        proj: file.affine(format_args!("{at}.attn.proj"), h, h)?,
        norm2: file.float(format_args!("{at}.norm2.weight"), 1, h)?,
        w12: GatedPair::new(file.linear(format_args!("{at}.mlp.w12"), 2 * ffn, h)?),
        w3: file.linear(format_args!("{at}.mlp.w3"), h, ffn)?,
        rotated: file.rotated,
        modulation: file.affine(format_args!("{at}.adaLN_modulation.0"), 6 * h, h)?,
    })
}
