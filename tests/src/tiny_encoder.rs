//! A Qwen3 folder with one layer, small enough to test every kind of damage within seconds.

use std::path::Path;

use crate::convert_checkpoint::{Float, Tensor, safetensors};

/// Its `config.json`.
pub const CONFIG: &str = r#"{"model_type":"qwen3","hidden_size":8,"intermediate_size":6,"num_hidden_layers":1,
    "num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":5,"max_position_embeddings":64,
    "rms_norm_eps":1e-6,"rope_theta":1e4,"hidden_act":"silu"}"#;

/// Its tensors, without `model.` before and `.weight` after.
pub const SHAPES: [(&str, &[u64]); 13] = [
    ("embed_tokens", &[5, 8]),
    ("layers.0.input_layernorm", &[8]),
    ("layers.0.self_attn.q_proj", &[8, 8]),
    ("layers.0.self_attn.k_proj", &[4, 8]),
    ("layers.0.self_attn.v_proj", &[4, 8]),
    ("layers.0.self_attn.q_norm", &[4]),
    ("layers.0.self_attn.k_norm", &[4]),
    ("layers.0.self_attn.o_proj", &[8, 8]),
    ("layers.0.post_attention_layernorm", &[8]),
    ("layers.0.mlp.gate_proj", &[6, 8]),
    ("layers.0.mlp.up_proj", &[6, 8]),
    ("layers.0.mlp.down_proj", &[8, 6]),
    ("norm", &[8]),
];

/// Its `tokenizer.json`: four tokens, a merge and a special token.
pub fn tokenizer_json() -> String {
    let split = serde_json::json!({"type": "Split", "behavior": "Isolated", "invert": false,
        "pattern": {"Regex": denoir_core::gguf::keys::tokenizer::QWEN2_SPLIT}});
    let bytes = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": false});
    let added = serde_json::json!({"id": 4, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    let model = serde_json::json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]});
    serde_json::json!({"version": "1.0", "added_tokens": [added], "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]}, "model": model})
    .to_string()
}

/// Writes the folder, with its weights in this type.
///
/// # Errors
/// Errors of the disk.
pub fn write(at: &Path, ty: Float) -> std::io::Result<()> {
    let tensor = |(name, shape): (&str, &[u64])| {
        let values = (0..shape.iter().product()).map(|i| ((i % 7) as f32 - 3.0) / 4.0).collect();
        Tensor { name: format!("model.{name}.weight"), shape: shape.to_vec(), values }
    };
    let tensors: Vec<Tensor> = SHAPES.into_iter().map(tensor).collect();
    std::fs::write(at.join("model.safetensors"), safetensors(&tensors, ty))?;
    std::fs::write(at.join("config.json"), CONFIG)?;
    std::fs::write(at.join("tokenizer.json"), tokenizer_json())
}
