use heapless::Vec;

use super::config::{JitConfig, MAX_DEPTH};
use crate::error::ModelError;
use crate::gguf::{Gguf, Name, TensorInfo};
use crate::{DType, Region, View, Weight};

/// The network's weights as views into the model file, and its sizes.
#[derive(Clone, Debug)]
pub struct JitModel {
    /// Sizes.
    pub config: JitConfig,
    /// Bytes of the model file.
    pub file_bytes: usize,
    /// `(hidden, 256)` and bias.
    pub t_mlp0: Affine,
    /// `(hidden, hidden)` and bias.
    pub t_mlp2: Affine,
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
    pub final_modulation: Affine,
    /// `(patch values, hidden)` and bias.
    pub final_linear: Affine,
}

/// A linear layer with a bias.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    /// `(out, in)`.
    pub weight: Weight,
    /// `(1, out)` f32.
    pub bias: View,
}

/// The two forms of the patch embedding.
#[derive(Clone, Copy, Debug)]
pub enum PatchEmbedParams {
    /// JiT and PixelGen-L: `(bottleneck, patch values)` without bias, then `(hidden, bottleneck)` with one.
    Bottleneck(Weight, Affine),
    /// PixelGen-XL: `(hidden, patch values)` with bias.
    Direct(Affine),
}

/// One block's weights.
#[derive(Clone, Copy, Debug)]
pub struct BlockParams {
    /// `(1, hidden)` f32.
    pub norm1: View,
    /// `(3 · hidden, hidden)` and bias.
    pub qkv: Affine,
    /// `(1, head_dim)` f32.
    pub q_norm: View,
    /// `(1, head_dim)` f32.
    pub k_norm: View,
    /// `(hidden, hidden)` and bias.
    pub proj: Affine,
    /// `(1, hidden)` f32.
    pub norm2: View,
    /// `(2 · ffn_hidden, hidden)` and bias.
    pub w12: Affine,
    /// `(hidden, ffn_hidden)` and bias.
    pub w3: Affine,
    /// `(6 · hidden, hidden)` and bias.
    pub modulation: Affine,
}

impl JitModel {
    /// Finds every tensor and checks its shape and type.
    ///
    /// # Errors
    /// [`ModelError`], naming the key or tensor that is missing or wrong.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<JitModel, ModelError> {
        let config = JitConfig::from_gguf(gguf)?;
        let c = &config;
        let file = Tensors { gguf };
        let h = c.hidden;
        let patch_embed = match c.bottleneck {
            0 => PatchEmbedParams::Direct(file.affine(format_args!("x_embedder.proj1"), h, c.patch_values())?),
            width => PatchEmbedParams::Bottleneck(
                file.weight(format_args!("x_embedder.proj1.weight"), width, c.patch_values())?,
                file.affine(format_args!("x_embedder.proj2"), h, width)?,
            ),
        };
        let context_position = match c.context_tokens {
            0 => View::dense(Region::Weights, DType::F32, 0, 0, h),
            rows => file.float(format_args!("in_context_posemb"), rows, h)?,
        };
        let mut blocks = Vec::new();
        for i in 0..c.depth {
            // The configuration bounds the depth by the capacity.
            let _ = blocks.push(BlockParams::from_gguf(&file, c, i)?);
        }
        Ok(JitModel {
            config,
            file_bytes: gguf.len_bytes(),
            t_mlp0: file.affine(format_args!("t_embedder.mlp.0"), h, super::TIMESTEP_WIDTH)?,
            t_mlp2: file.affine(format_args!("t_embedder.mlp.2"), h, h)?,
            label_table: file.wide_float(format_args!("y_embedder.embedding_table.weight"), c.classes + 1, h)?,
            patch_embed,
            pos_embed: file.float(format_args!("pos_embed"), c.image_tokens(), h)?,
            context_position,
            blocks,
            final_norm: file.float(format_args!("final_layer.norm_final.weight"), 1, h)?,
            final_modulation: file.affine(format_args!("final_layer.adaLN_modulation.1"), 2 * h, h)?,
            final_linear: file.affine(format_args!("final_layer.linear"), c.patch_values(), h)?,
        })
    }

    /// The type of most of the weights: that of the first block's FFN.
    pub fn weight_type(&self) -> DType {
        self.blocks.first().map_or(DType::F32, |b| b.w12.weight.data.dtype)
    }
}

impl BlockParams {
    fn from_gguf(file: &Tensors<'_>, c: &JitConfig, i: usize) -> Result<BlockParams, ModelError> {
        let (h, head_dim, ffn) = (c.hidden, c.head_dim(), c.ffn_hidden);
        Ok(BlockParams {
            norm1: file.float(format_args!("blocks.{i}.norm1.weight"), 1, h)?,
            qkv: file.affine(format_args!("blocks.{i}.attn.qkv"), 3 * h, h)?,
            q_norm: file.float(format_args!("blocks.{i}.attn.q_norm.weight"), 1, head_dim)?,
            k_norm: file.float(format_args!("blocks.{i}.attn.k_norm.weight"), 1, head_dim)?,
            proj: file.affine(format_args!("blocks.{i}.attn.proj"), h, h)?,
            norm2: file.float(format_args!("blocks.{i}.norm2.weight"), 1, h)?,
            w12: file.affine(format_args!("blocks.{i}.mlp.w12"), 2 * ffn, h)?,
            w3: file.affine(format_args!("blocks.{i}.mlp.w3"), h, ffn)?,
            modulation: file.affine(format_args!("blocks.{i}.adaLN_modulation.1"), 6 * h, h)?,
        })
    }
}

/// Looks tensors up by name and checks them.
struct Tensors<'g> {
    gguf: &'g Gguf<'g>,
}

impl Tensors<'_> {
    fn find(&self, name: core::fmt::Arguments<'_>) -> Result<(Name, TensorInfo<'_>), ModelError> {
        let mut text = Name::new();
        // A name that does not fit is cut, and is then not in the file.
        let _ = core::fmt::write(&mut text, name);
        let tensor = self.gguf.tensor(&text)?;
        Ok((text, tensor))
    }

    /// A matrix of this shape; leading or trailing dimensions of size 1 and a convolution's window count as one row.
    fn view(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<(Name, View), ModelError> {
        let (name, tensor) = self.find(name)?;
        let Some(dtype) = tensor.ggml_type.dtype() else {
            return Err(ModelError::TensorType { name });
        };
        let fits = tensor.dims.elements() == rows * cols && splits(&tensor.dims, rows, cols);
        if !fits {
            return Err(ModelError::Shape { name, rows, cols });
        }
        let offset = usize::try_from(tensor.offset).map_err(|_| ModelError::TooLarge)?;
        if !offset.is_multiple_of(dtype.size()) {
            return Err(ModelError::Misaligned { name });
        }
        Ok((name, View::dense(Region::Weights, dtype, offset, rows, cols)))
    }

    fn float(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<View, ModelError> {
        let (name, view) = self.view(name, rows, cols)?;
        if view.dtype != DType::F32 {
            return Err(ModelError::TensorType { name });
        }
        Ok(view)
    }

    fn wide_float(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<View, ModelError> {
        let (name, view) = self.view(name, rows, cols)?;
        match view.dtype {
            DType::F32 | DType::F16 | DType::BF16 => Ok(view),
            DType::I8 | DType::U32 => Err(ModelError::TensorType { name }),
        }
    }

    fn weight(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        let (name, data) = self.view(name, rows, cols)?;
        let scale = match data.dtype {
            DType::I8 => Some(self.float(format_args!("{name}_scale"), 1, rows)?),
            _ => None,
        };
        Ok(Weight { data, scale })
    }

    fn affine(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<Affine, ModelError> {
        Ok(Affine {
            weight: self.weight(format_args!("{name}.weight"), rows, cols)?,
            bias: self.float(format_args!("{name}.bias"), 1, rows)?,
        })
    }
}

/// Whether the leading dimensions multiply to `rows` and the others to `cols`.
fn splits(dims: &[usize], rows: usize, cols: usize) -> bool {
    (0..=dims.len()).any(|at| {
        let (outer, inner) = dims.split_at(at);
        outer.iter().product::<usize>() == rows && inner.iter().product::<usize>() == cols
    })
}
