//! Writes the generated part of the corpus: a few valid inputs for each target that reads files. To be run as `cargo run
//! -p denoir-fuzz --example seeds`.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use denoir_convert::{Config, convert_bytes};
use denoir_core::DType;
use denoir_core::gguf::Gguf;
use denoir_core::noise::philox_randn;
use denoir_core::ops::Op;
use denoir_tests::convert_checkpoint::*;
use denoir_tests::tiny_encoder;

/// Settings as upstream's Lightning configuration has them.
const YAML: &str = "tags: {exp: name}\nmodel:\n  denoiser:\n    init_args: &args\n      input_size: 4\n      depth: 1\n  \
    diffusion_sampler:\n    class_path: src.HeunSamplerJiT\n    init_args: {num_steps: 50, guidance: 2.5, exact_henu: true,\n      \
    guidance_interval_min: 0.1, timeshift: 3.0, order: 2}\ncopy: *args\n";
/// Settings as denoir documents them.
const JSON: &str = r#"{"name": "n", "family": "jit", "rounding": "jit", "depth": 1, "use_bottleneck": true, "sampler":
    {"method": "heun", "steps": 9, "cfg_scale": 2, "guidance_interval": [0.1, 1], "flow_shift": 2, "order": 2}}"#;

fn main() -> Result<()> {
    let (jit, t2i) = (smallest_jit(true, 1), tiny_t2i(1));
    let config = Config::parse(SMALLEST_CONFIG.as_bytes())?;
    for (name, tensors, config) in [("jit", &jit, &config), ("t2i", &t2i, &Config::default())] {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
            let checkpoint = lightning(tensors, tensors, Float::F32);
            let mut model = Cursor::new(Vec::new());
            convert_bytes(&checkpoint, name, &mut model, None, dtype, config, None)?;
            put("gguf", &format!("seed-{name}-{}", dtype.name()), header(&model.into_inner())?)?;
        }
    }
    let folder = tempfile::tempdir()?;
    tiny_encoder::write(folder.path(), Float::BF16)?;
    let (encoder, checkpoint) = (folder.path().join("e.gguf"), folder.path().join("model.safetensors"));
    denoir_convert::convert(&checkpoint, &encoder, &denoir_convert::Options::default(), &mut |_| {})?;
    put("gguf", "seed-qwen3", header(&std::fs::read(encoder)?)?)?;

    put("torch", "seed-lightning", &lightning(&jit[..8], &jit, Float::F16))?;
    put("torch", "seed-pth", &jit_pth(&[("model_ema1", &jit)], 1.0, Float::BF16))?;
    put("safetensors", "seed-jit", &safetensors_file(&prefixed("net.", &jit)))?;
    put("safetensors", "seed-t2i", &safetensors_file(&t2i[..4]))?;
    put("safetensors", "seed-index", br#"{"metadata":{"total_size":9},"weight_map":{"a":"1.safetensors","b":"2"}}"#)?;
    put("config", "seed-yaml", YAML.as_bytes())?;
    put("config", "seed-json", JSON.as_bytes())?;
    put("config", "seed-qwen3", tiny_encoder::CONFIG.as_bytes())?;
    put("config", "seed-tokenizer", tiny_encoder::tokenizer_json().as_bytes())?;
    let embeds = ["prompt_embeds", "negative_prompt_embeds"].map(|name| Tensor {
        name: name.into(),
        shape: vec![2, 3],
        values: vec![0.5; 6],
    });
    put("embeddings", "seed-bf16", &safetensors(&embeds, Float::BF16))?;
    put("embeddings", "seed-f32", &safetensors(&embeds, Float::F32))?;
    choices()
}

/// Inputs of the targets that read bytes as choices: of each kernel two, of others a few of different lengths.
fn choices() -> Result<()> {
    let bytes = |seed: u64, len: usize| {
        let mut values = vec![0.0; len];
        philox_randn(seed, &mut values);
        values.iter().map(|x| (x * 1000.0) as i32 as u8).collect::<Vec<u8>>()
    };
    for (target, lens) in [("pickle", [60, 150, 400]), ("tokenizer", [60, 150, 400]), ("capi", [60, 120, 240])] {
        for (len, seed) in lens.into_iter().zip(0..) {
            put(target, &format!("seed-{seed}"), &bytes(seed, len))?;
        }
    }
    for (kernel, name) in (0..).zip(Op::NAMES) {
        for seed in 0..2 {
            put("op", &format!("seed-{name}-{seed}"), &[vec![kernel], bytes(seed, 40)].concat())?;
        }
    }
    Ok(())
}

fn safetensors_file(tensors: &[Tensor]) -> Vec<u8> {
    safetensors(tensors, Float::F16)
}

/// What comes before a model file's data; the target adds data.
fn header(model: &[u8]) -> Result<&[u8]> {
    Ok(&model[..usize::try_from(Gguf::parse(model)?.data_start())?])
}

fn put(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    std::fs::write(folder.join(name), bytes).with_context(|| folder.join(name).display().to_string())
}
