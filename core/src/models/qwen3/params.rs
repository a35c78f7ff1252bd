use core::mem::MaybeUninit;

use heapless::Vec;

use super::config::{MAX_DEPTH, Qwen3Config};
use crate::gguf::{Gguf, keys::qwen3::TOKEN_EMBEDDING};
use crate::models::error::ModelError;
use crate::models::params::{Matrix, Tensors};
use crate::{DType, View};

/// The network's weights as views into the model file, and its sizes. Tensor names are llama.cpp's.
#[derive(Clone, Debug)]
pub struct Qwen3Model {
    /// Sizes.
    pub config: Qwen3Config,
    /// `(vocabulary, hidden)`.
    pub embedding: Matrix,
    /// The layers in order.
    pub layers: Vec<LayerParams, MAX_DEPTH>,
    /// `(1, hidden)` f32.
    pub final_norm: View,
}

/// One layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct LayerParams {
    /// `(1, hidden)` f32.
    pub attn_norm: View,
    /// `(heads · head_dim, hidden)`.
    pub q: Matrix,
    /// `(kv_heads · head_dim, hidden)`.
    pub k: Matrix,
    /// `(kv_heads · head_dim, hidden)`.
    pub v: Matrix,
    /// `(1, head_dim)` f32.
    pub q_norm: View,
    /// `(1, head_dim)` f32.
    pub k_norm: View,
    /// `(hidden, heads · head_dim)`.
    pub output: Matrix,
    /// `(1, hidden)` f32.
    pub ffn_norm: View,
    /// `(ffn_hidden, hidden)`: its output is the input of SiLU.
    pub gate: Matrix,
    /// `(ffn_hidden, hidden)`.
    pub up: Matrix,
    /// `(hidden, ffn_hidden)`.
    pub down: Matrix,
}

impl Qwen3Model {
    /// Finds every tensor and checks its shape and type. Ignores the output head.
    ///
    /// # Errors
    /// [`ModelError`], naming the missing or wrong key or tensor.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Qwen3Model, ModelError> {
        let mut slot = MaybeUninit::uninit();
        Qwen3Model::read_into(gguf, &mut slot).cloned()
    }

    /// The same in the caller's memory: a model is large, whatever its depth, and this takes little of the stack.
    ///
    /// # Errors
    /// As [`Qwen3Model::from_gguf`].
    pub fn read_into<'s>(
        gguf: &Gguf<'_>,
        slot: &'s mut MaybeUninit<Qwen3Model>,
    ) -> Result<&'s mut Qwen3Model, ModelError> {
        let config = Qwen3Config::from_gguf(gguf)?;
        let file = Tensors::new(gguf)?;
        let embedding = file.matrix(format_args!("{TOKEN_EMBEDDING}"), config.vocabulary, config.hidden)?;
        if embedding.plain().is_some_and(|w| w.data.dtype == DType::I8) {
            let mut name = crate::gguf::Name::new();
            // The name is short.
            let _ = name.push_str(TOKEN_EMBEDDING);
            return Err(ModelError::TensorType { name });
        }
        let final_norm = file.float(format_args!("output_norm.weight"), 1, config.hidden)?;
        let model = slot.write(Qwen3Model { config, embedding, layers: Vec::new(), final_norm });
        // The configuration bounds the depth by the capacity. Pushed where they stay: they are large.
        for i in 0..config.depth {
            let _ = model.layers.push(LayerParams::from_gguf(&file, &config, i)?);
        }
        Ok(model)
    }

    /// Every matrix of the layers.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers.iter().flat_map(|l| [&l.q, &l.k, &l.v, &l.output, &l.gate, &l.up, &l.down])
    }
}

impl LayerParams {
    fn from_gguf(file: &Tensors<'_>, c: &Qwen3Config, i: usize) -> Result<LayerParams, ModelError> {
        let (h, head_dim, ffn) = (c.hidden, c.head_dim, c.ffn_hidden);
        let (q, kv) = (c.q_width(), c.kv_width());
        Ok(LayerParams {
            attn_norm: file.float(format_args!("blk.{i}.attn_norm.weight"), 1, h)?,
            q: file.matrix(format_args!("blk.{i}.attn_q.weight"), q, h)?,
            k: file.matrix(format_args!("blk.{i}.attn_k.weight"), kv, h)?,
            v: file.matrix(format_args!("blk.{i}.attn_v.weight"), kv, h)?,
            q_norm: file.float(format_args!("blk.{i}.attn_q_norm.weight"), 1, head_dim)?,
            k_norm: file.float(format_args!("blk.{i}.attn_k_norm.weight"), 1, head_dim)?,
            output: file.matrix(format_args!("blk.{i}.attn_output.weight"), h, q)?,
            ffn_norm: file.float(format_args!("blk.{i}.ffn_norm.weight"), 1, h)?,
            gate: file.matrix(format_args!("blk.{i}.ffn_gate.weight"), ffn, h)?,
            up: file.matrix(format_args!("blk.{i}.ffn_up.weight"), ffn, h)?,
            down: file.matrix(format_args!("blk.{i}.ffn_down.weight"), h, ffn)?,
        })
    }
}
