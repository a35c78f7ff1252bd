//! Weights that are not finite: damage to every tensor of small models, which must give an error and never a picture.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use denoir::{AlignedBytes, Condition, Denoise, Error, Model, PromptEmbeds, Rng, Settings};
use denoir_convert::{Config, convert_bytes};
use denoir_core::gguf::{GgmlType, Gguf};
use denoir_core::{DType, Job, RunError};
use half::{bf16, f16};

use crate::convert_checkpoint::{Float, TINY_CONFIG, Tensor, safetensors, tiny_jit, tiny_t2i};

/// The types of weights.
pub const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];

/// What a weight must not be.
pub const VALUES: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Draws with a model in some way: what came of it, or why it could not be tried.
pub type Draw<'d> = dyn Fn(&Arc<Model>) -> Result<Result<(), Error>> + 'd;

/// The smallest model file of each architecture.
///
/// # Errors
/// Those of the conversion.
pub fn smallest(dtype: DType) -> Result<[Vec<u8>; 2]> {
    Ok([converted(&tiny_jit(true, 1), TINY_CONFIG, dtype)?, converted(&tiny_t2i(1), "{}", dtype)?])
}

fn converted(tensors: &[Tensor], config: &str, dtype: DType) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    let config = Config::parse(config.as_bytes())?;
    convert_bytes(&safetensors(tensors, Float::F32), "tiny", &mut out, None, dtype, &config, None)?;
    Ok(out.into_inner())
}

/// Puts these values into the first place of each tensor in turn, and wants the error of `draw`, which runs
/// [`generate`].
///
/// # Errors
/// A picture, or another error.
pub fn are_refused(what: &str, file: &[u8], values: &[f32], draw: &Draw<'_>) -> Result<()> {
    draw(&opened(file)?)?.with_context(|| format!("{what}: undamaged"))?;
    let (mut bytes, mut damaged) = (file.to_vec(), 0);
    for tensor in Gguf::parse(file)?.tensors() {
        for &value in values {
            let value_bytes = match tensor.ggml_type {
                GgmlType::F32 => value.to_le_bytes().to_vec(),
                GgmlType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                GgmlType::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                // Integers, whose scales are a tensor of their own.
                _ => continue,
            };
            let at = usize::try_from(tensor.offset)?;
            let place = at..at + value_bytes.len();
            bytes[place.clone()].copy_from_slice(&value_bytes);
            let answer = draw(&opened(&bytes)?)?;
            let refused = matches!(answer, Err(Error::Run(RunError::NotFinite)));
            ensure!(refused, "{what}: {value} in {}: {answer:?}", tensor.name);
            bytes[place.clone()].copy_from_slice(&file[place]);
            damaged += 1;
        }
    }
    ensure!(damaged > 0, "{what}: nothing was damaged");
    Ok(())
}

fn opened(bytes: &[u8]) -> Result<Arc<Model>> {
    Ok(Arc::new(Model::from_bytes(AlignedBytes::copied(bytes)?)?))
}

/// Draws the first class, or a prompt, with guidance.
///
/// # Errors
/// The denoiser's.
pub fn generate(model: &Model, denoiser: &mut dyn Denoise) -> Result<(), Error> {
    let settings = Settings { steps: 1, guidance_interval: (0.0, 1.0), ..crate::settings() };
    let (length, width) = model.network().text_size().unwrap_or_default();
    let prompt: Vec<f32> = (0..length * width).map(|i| (i % 7) as f32 / 4.0 - 0.75).collect();
    let condition = match model.network().text_size() {
        Some(_) => Condition::Prompt(PromptEmbeds { prompt: &prompt, negative: &prompt, images: 1 }),
        None => Condition::Labels(&[0]),
    };
    let job = Job { settings: &settings, condition, seeds: &[1], rng: Rng::Philox };
    let mut image = vec![0.0; model.network().pixels()];
    denoiser.generate(&job, &mut image, &mut |_| ControlFlow::Continue(()))
}
