//! The text-to-image network and its text encoder.

use denoir::core::qwen3::{Qwen3Config, Qwen3Model};
use denoir::core::t2i::T2iConfig;
use serde_json::{Value as Json, json};

use super::lines::{image_text, line};

pub(super) fn describe_t2i(out: &mut String, c: &T2iConfig) {
    line(out, "image", &image_text(c.input_size, c.channels, c.patch_size));
    let blocks = format!("{} image and {} text blocks × {}", c.depth, c.text_depth, c.hidden);
    let heads = format!("{} heads of {}, FFN {}, bottleneck {}", c.heads, c.head_dim(), c.ffn_hidden, c.bottleneck);
    line(out, "network", &format!("{blocks}, {heads}"));
    line(out, "text", &format!("{} tokens × {}", c.text_length, c.text_width));
}

pub(super) fn describe_encoder(out: &mut String, model: &Qwen3Model) {
    let c = &model.config;
    let heads = format!("{} query and {} key heads of {}, FFN {}", c.heads, c.kv_heads, c.head_dim, c.ffn_hidden);
    line(out, "network", &format!("{} layers × {}, {heads}", c.depth, c.hidden));
    line(out, "vocabulary", &format!("{} tokens in {}", c.vocabulary, model.embedding.type_name()));
}

pub(super) fn t2i_json(c: &T2iConfig) -> Json {
    json!({
        "input_size": c.input_size,
        "patch_size": c.patch_size,
        "channels": c.channels,
        "hidden": c.hidden,
        "depth": c.depth,
        "text_depth": c.text_depth,
        "heads": c.heads,
        "head_dim": c.head_dim(),
        "ffn_hidden": c.ffn_hidden,
        "bottleneck": c.bottleneck,
        "text_length": c.text_length,
        "text_width": c.text_width,
        "gflop": c.flop() as f64 / 1e9,
    })
}

pub(super) fn encoder_json(c: &Qwen3Config) -> Json {
    json!({
        "hidden": c.hidden,
        "depth": c.depth,
        "heads": c.heads,
        "kv_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "ffn_hidden": c.ffn_hidden,
        "vocabulary": c.vocabulary,
    })
}
