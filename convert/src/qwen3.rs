//! Converts a Qwen3 folder (`config.json`, `*.safetensors`, `tokenizer.json`) to a `qwen3` GGUF with llama.cpp's names.
//!
//! The output head is omitted, because the file is only for encoding text.

mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use denoir_core::DType;
use denoir_core::gguf::keys::{self, qwen3};
use serde_json::Value;

use crate::arch::{NetworkSpec, Role, TensorSpec};
use crate::checkpoint::{Checkpoint, Selection, Tensors};
use crate::error::ConvertError;
use crate::read_small;
use crate::tensor::Tensor;
use crate::torch::ElementType;
use crate::writer::{Metadata, declare_alignment};
use tokenizer::Vocabulary;

/// Largest `config.json` in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest `tokenizer.json` in bytes; Qwen3's is 11 MB.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// Maximum number of layers that the engine runs.
const MAX_LAYERS: u32 = 64;

/// The files that accompany the tensors in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    config: Vec<u8>,
    tokenizer: Vec<u8>,
}

impl Files {
    /// Reads the files that accompany the checkpoint `input`.
    pub(crate) fn load(input: &Path) -> Result<Files, ConvertError> {
        let read = |name: &str, limit| read_small(&input.with_file_name(name), limit);
        Ok(Files {
            config: read("config.json", MAX_CONFIG_BYTES)?,
            tokenizer: read("tokenizer.json", MAX_TOKENIZER_BYTES)?,
        })
    }
}

/// Reads a `config.json` and does nothing with it.
pub(crate) fn check_config(config: &[u8]) -> Result<(), ConvertError> {
    Sizes::read(config).map(|sizes| sizes.describe(&mut Metadata::default()))
}

/// Reads a `tokenizer.json` for an embedding of `rows` tokens and does nothing with it.
pub(crate) fn check_vocabulary(json: &[u8], rows: u32) -> Result<(), ConvertError> {
    Vocabulary::read(json, rows).map(|vocabulary| vocabulary.describe(&mut Metadata::default()))
}

/// Returns whether a checkpoint is Qwen3's, by its tensors.
pub(crate) fn recognise(checkpoint: &Checkpoint<'_>) -> bool {
    let has = |wanted: &str| checkpoint.tensors.iter().any(|t| upstream_name(&t.name) == wanted);
    has("embed_tokens.weight") && has("layers.0.self_attn.q_norm.weight")
}

/// The type that keeps a text encoder's matrices unchanged: that of its embeddings.
pub(crate) fn stored_type(checkpoint: &Checkpoint<'_>) -> DType {
    let embeddings = checkpoint.tensors.iter().find(|t| upstream_name(&t.name) == "embed_tokens.weight");
    match embeddings.map(|t| t.tensor.ty) {
        Some(ElementType::F32 | ElementType::F64) => DType::F32,
        Some(ElementType::F16) => DType::F16,
        _ => DType::BF16,
    }
}

/// Without the prefix of the model with an output head.
fn upstream_name(name: &str) -> &str {
    name.strip_prefix("model.").unwrap_or(name)
}

/// The facts that a conversion needs.
pub(crate) struct Parts<'a> {
    pub(crate) selection: Selection<'a>,
    pub(crate) network: NetworkSpec,
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
}

/// Reads the folder: sizes, names, tokenizer.
pub(crate) fn read<'a>(checkpoint: &Checkpoint<'a>, files: &Files, dtype: DType) -> Result<Parts<'a>, ConvertError> {
    let sizes = Sizes::read(&files.config)?;
    let specs = sizes.specs();
    let tensors = rename(checkpoint, &specs)?;
    // Before the vocabulary, which has as many tokens as the embedding has rows.
    checkpoint.hold(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    let vocabulary = Vocabulary::read(&files.tokenizer, sizes.vocabulary)?;
    let name = format!("Qwen3-{}x{}", sizes.layers, sizes.hidden);
    let mut metadata = Metadata::default();
    metadata.string(keys::ARCHITECTURE, keys::ARCH_QWEN3);
    metadata.string(keys::NAME, &name);
    declare_alignment(&mut metadata);
    match dtype {
        DType::F32 => metadata.u32(keys::FILE_TYPE, 0),
        DType::F16 => metadata.u32(keys::FILE_TYPE, 1),
        DType::BF16 => metadata.u32(keys::FILE_TYPE, 32),
        DType::I8 | DType::U32 => metadata.u32(keys::QUANTIZATION_VERSION, 2),
    }
    sizes.describe(&mut metadata);
    vocabulary.describe(&mut metadata);
    metadata.string(keys::WEIGHT_TYPE, dtype.name());
    let network = NetworkSpec {
        architecture: keys::ARCH_QWEN3,
        sizes: Vec::new(),
        specs: specs.into_iter().map(|(_, spec)| spec).collect(),
        depth: sizes.layers.into(),
        hidden: sizes.hidden.into(),
        input_size: 0,
        patch_size: 0,
        classes: 0,
        bottleneck: false,
    };
    let selection = Selection { weights: "", family: None, tensors };
    Ok(Parts { selection, network, name, metadata })
}

/// The tensors by llama.cpp's names; those that the encoder does not need are dropped.
fn rename<'a>(checkpoint: &Checkpoint<'a>, specs: &[(String, TensorSpec)]) -> Result<Tensors<'a>, ConvertError> {
    let upstream: BTreeMap<&str, &Tensor<'a>> =
        checkpoint.tensors.iter().map(|t| (upstream_name(&t.name), &t.tensor)).collect();
    let mut tensors = Tensors::new();
    for (name, spec) in specs {
        let tensor = *upstream.get(name.as_str()).ok_or_else(|| ConvertError::MissingTensor(name.clone()))?;
        if tensor.shape != spec.shape {
            let (found, wanted) = (tensor.shape.clone(), format!("{:?}", spec.shape));
            return Err(ConvertError::Shape { tensor: name.clone(), found, wanted });
        }
        tensors.insert(spec.name.clone(), tensor.clone());
    }
    let known = |name: &str| name == "lm_head.weight" || specs.iter().any(|(known, _)| known == name);
    match upstream.keys().find(|name| !known(name)) {
        Some(name) => Err(ConvertError::UnexpectedTensor((*name).to_owned())),
        None => Ok(tensors),
    }
}

/// The contents of `config.json`.
struct Sizes {
    layers: u32,
    hidden: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    vocabulary: u32,
    context: u32,
    eps: f32,
    rope_base: f32,
}

impl Sizes {
    fn read(config: &[u8]) -> Result<Sizes, ConvertError> {
        let root: Value =
            serde_json::from_slice(config).map_err(|e| ConvertError::text_encoder("config.json", e.to_string()))?;
        let refuse = |key: &str| {
            ConvertError::text_encoder("config.json", format!("{key} is missing or no size of a Qwen3 network"))
        };
        if root.get("model_type").and_then(Value::as_str) != Some("qwen3") {
            return Err(ConvertError::text_encoder("config.json", "model_type is not qwen3".into()));
        }
        refuse_variants(&root)?;
        let size = |key: &str| {
            let value = root.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            value.filter(|n| (1..=1 << 24).contains(n)).ok_or_else(|| refuse(key))
        };
        let number = |value: Option<&Value>, key: &str| {
            let number = value.and_then(Value::as_f64).map(|n| n as f32);
            number.filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| refuse(key))
        };
        // Newer versions of the library keep it one level below.
        let rope = root.get("rope_theta").or_else(|| root.get("rope_parameters")?.get("rope_theta"));
        let layers = size("num_hidden_layers")?;
        if layers > MAX_LAYERS {
            return Err(refuse("num_hidden_layers"));
        }
        Ok(Sizes {
            layers,
            hidden: size("hidden_size")?,
            ffn: size("intermediate_size")?,
            heads: size("num_attention_heads")?,
            kv_heads: size("num_key_value_heads")?,
            head_dim: size("head_dim")?,
            vocabulary: size("vocab_size")?,
            context: size("max_position_embeddings")?,
            eps: number(root.get("rms_norm_eps"), "rms_norm_eps")?,
            rope_base: number(rope, "rope_theta")?,
        })
    }

    fn describe(&self, metadata: &mut Metadata) {
        for (key, size) in [
            (qwen3::BLOCK_COUNT, self.layers),
            (qwen3::CONTEXT_LENGTH, self.context),
            (qwen3::EMBEDDING_LENGTH, self.hidden),
            (qwen3::FEED_FORWARD_LENGTH, self.ffn),
            (qwen3::HEAD_COUNT, self.heads),
            (qwen3::HEAD_COUNT_KV, self.kv_heads),
            (qwen3::KEY_LENGTH, self.head_dim),
            (qwen3::VALUE_LENGTH, self.head_dim),
        ] {
            metadata.u32(key, size);
        }
        metadata.f32(qwen3::RMS_EPSILON, self.eps);
        metadata.f32(qwen3::ROPE_BASE, self.rope_base);
    }

    /// Every tensor that the encoder needs, upstream's name first. The FFN's last layer is never int8, because its
    /// input has the outliers known from language models ("massive activations", arXiv 2402.17762).
    fn specs(&self) -> Vec<(String, TensorSpec)> {
        use Role::{Keep, Matrix, Quantizable};
        let (h, ffn, hd) = (u64::from(self.hidden), u64::from(self.ffn), u64::from(self.head_dim));
        let (q, kv) = (u64::from(self.heads) * hd, u64::from(self.kv_heads) * hd);
        let spec = |from: String, to: String, shape: &[u64], role| {
            (from + ".weight", TensorSpec { name: to + ".weight", shape: shape.to_vec(), role })
        };
        let mut specs =
            vec![spec("embed_tokens".into(), "token_embd".into(), &[u64::from(self.vocabulary), h], Matrix)];
        for i in 0..self.layers {
            let parts: [(&str, &str, &[u64], Role); 11] = [
                ("input_layernorm", "attn_norm", &[h], Keep),
                ("self_attn.q_proj", "attn_q", &[q, h], Quantizable),
                ("self_attn.k_proj", "attn_k", &[kv, h], Quantizable),
                ("self_attn.v_proj", "attn_v", &[kv, h], Quantizable),
                ("self_attn.q_norm", "attn_q_norm", &[hd], Keep),
                ("self_attn.k_norm", "attn_k_norm", &[hd], Keep),
                ("self_attn.o_proj", "attn_output", &[h, q], Quantizable),
                ("post_attention_layernorm", "ffn_norm", &[h], Keep),
                ("mlp.gate_proj", "ffn_gate", &[ffn, h], Quantizable),
                ("mlp.up_proj", "ffn_up", &[ffn, h], Quantizable),
                ("mlp.down_proj", "ffn_down", &[h, ffn], Matrix),
            ];
            for (from, to, shape, role) in parts {
                specs.push(spec(format!("layers.{i}.{from}"), format!("blk.{i}.{to}"), shape, role));
            }
        }
        specs.push(spec("norm".into(), "output_norm".into(), &[h], Keep));
        specs
    }
}

/// Rejects settings under which the same tensors would mean another network.
fn refuse_variants(root: &Value) -> Result<(), ConvertError> {
    let word = |pointer: &str, meant: &str| root.pointer(pointer).and_then(Value::as_str).is_none_or(|w| w == meant);
    let off = |key: &str| root.get(key).and_then(Value::as_bool) != Some(true);
    for (meant, key) in [
        (word("/hidden_act", "silu"), "hidden_act"),
        (word("/rope_parameters/rope_type", "default"), "rope_parameters.rope_type"),
        (word("/rope_scaling/rope_type", "default"), "rope_scaling.rope_type"),
        (word("/rope_scaling/type", "default"), "rope_scaling.type"),
        (off("use_sliding_window"), "use_sliding_window"),
    ] {
        if !meant {
            return Err(ConvertError::text_encoder(
                "config.json",
                format!("{key} asks for a variant of Qwen3 that denoir does not run"),
            ));
        }
    }
    Ok(())
}
