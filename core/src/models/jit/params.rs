use core::mem::MaybeUninit;

use heapless::Vec;

use super::config::{JitConfig, MAX_DEPTH};
use crate::gguf::Gguf;
use crate::models::error::ModelError;
use crate::models::params::{BlockParams, Dense, GatedPair, Tensors};
use crate::models::patches::PatchEmbedParams;
use crate::models::plan::TIMESTEP_WIDTH;
use crate::{DType, Region, View, Weight};

/// The network's weights as views into the model file, and its sizes.
#[derive(Clone, Debug)]
pub struct JitModel {
    /// Sizes.
    pub config: JitConfig,
    /// Bytes of the model file.
    pub file_bytes: usize,
    /// `(hidden, 256)` and bias.
    pub t_mlp0: Dense,
    /// `(hidden, hidden)` and bias.
    pub t_mlp2: Dense,
    /// `(classes + 1, hidden)`.
    pub label_table: View,
    /// Patch embedding.
    pub patch_embed: PatchEmbedParams,
    /// `(image tokens, hidden)` f32.
    pub pos_embed: View,
    /// `(context tokens, hidden)` f32; no rows without context tokens.
    pub context_position: View,
    /// The blocks in order.
    pub blocks: Vec<BlockParams, MAX_DEPTH>,
    /// `(1, hidden)` f32.
    pub final_norm: View,
    /// `(2 · hidden, hidden)` and bias.
    pub final_modulation: Dense,
    /// `(patch values, hidden)` and bias.
    pub final_linear: Dense,
}

impl JitModel {
    /// Finds every tensor and checks its shape and type.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing or wrong key or tensor.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<JitModel, ModelError> {
        let mut slot = MaybeUninit::uninit();
        JitModel::read_into(gguf, &mut slot).cloned()
    }

    /// The same in the caller's memory: a model is large, whatever its depth, and this takes little of the stack.
    ///
    /// # Errors
    /// As [`JitModel::from_gguf`].
    #[inline(never)] // its temporaries would lie in the caller's frame while it draws
    pub fn read_into<'s>(gguf: &Gguf<'_>, slot: &'s mut MaybeUninit<JitModel>) -> Result<&'s mut JitModel, ModelError> {
        let config = JitConfig::from_gguf(gguf)?;
        let c = &config;
        let file = Tensors::new(gguf)?;
        let h = c.hidden;
        let context_position = match c.context_tokens {
            0 => View::dense(Region::Weights, DType::F32, 0, 0, h),
            rows => file.float(format_args!("in_context_posemb"), rows, h)?,
        };
        let model = slot.write(JitModel {
            config,
            file_bytes: gguf.len_bytes(),
            t_mlp0: file.affine(format_args!("t_embedder.mlp.0"), h, TIMESTEP_WIDTH)?,
            t_mlp2: file.affine(format_args!("t_embedder.mlp.2"), h, h)?,
            label_table: file.wide_float(format_args!("y_embedder.embedding_table.weight"), c.classes + 1, h)?,
            patch_embed: PatchEmbedParams::read(&file, h, c.bottleneck, c.patch_values())?,
            pos_embed: file.float(format_args!("pos_embed"), c.image_tokens(), h)?,
            context_position,
            blocks: Vec::new(),
            final_norm: file.float(format_args!("final_layer.norm_final.weight"), 1, h)?,
            final_modulation: file.affine(format_args!("final_layer.adaLN_modulation.1"), 2 * h, h)?,
            final_linear: file.affine(format_args!("final_layer.linear"), c.patch_values(), h)?,
        });
        // The configuration bounds the depth by the capacity. Pushed where they stay: they are large.
        for i in 0..c.depth {
            let _ = model.blocks.push(block(&file, c, i)?);
        }
        Ok(model)
    }

    /// The matrices that every evaluation reads, which a backend may repack. Excludes those of the modulation, which
    /// are read once for many evaluations.
    pub fn matrices(&self) -> impl Iterator<Item = Weight> + Clone {
        let blocks = self.blocks.iter().flat_map(BlockParams::matrices);
        self.patch_embed.matrices().chain(blocks).chain([self.final_linear.weight])
    }

    /// The matrices of the modulation, which are read once for all steps of a chunk.
    pub fn modulation_matrices(&self) -> impl Iterator<Item = &Weight> + Clone {
        self.blocks.iter().map(|block| &block.modulation.weight).chain([&self.final_modulation.weight])
    }

    /// The type of most weights, that is of the first block's FFN.
    pub fn weight_type(&self) -> DType {
        self.blocks.first().map_or(DType::F32, |b| b.w12.both.weight.data.dtype)
    }
}

fn block(file: &Tensors<'_>, c: &JitConfig, i: usize) -> Result<BlockParams, ModelError> {
    let (h, head_dim, ffn) = (c.hidden, c.head_dim(), c.ffn_hidden);
    Ok(BlockParams {
        norm1: file.float(format_args!("blocks.{i}.norm1.weight"), 1, h)?,
        qkv: file.affine(format_args!("blocks.{i}.attn.qkv"), 3 * h, h)?,
        q_norm: file.float(format_args!("blocks.{i}.attn.q_norm.weight"), 1, head_dim)?,
        k_norm: file.float(format_args!("blocks.{i}.attn.k_norm.weight"), 1, head_dim)?,
        proj: file.affine(format_args!("blocks.{i}.attn.proj"), h, h)?,
        norm2: file.float(format_args!("blocks.{i}.norm2.weight"), 1, h)?,
        w12: GatedPair::new(file.affine(format_args!("blocks.{i}.mlp.w12"), 2 * ffn, h)?),
        w3: file.affine(format_args!("blocks.{i}.mlp.w3"), h, ffn)?,
        rotated: file.rotated,
        modulation: file.affine(format_args!("blocks.{i}.adaLN_modulation.1"), 6 * h, h)?,
    })
}
