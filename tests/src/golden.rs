//! Whole networks on any backend, compared with PyTorch's results: `fixtures/forward`, `fixtures/sample`,
//! `fixtures/text`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use denoir::{AlignedBytes, Condition, Denoise, Error, Method, Model, PromptEmbeds, Rng, Settings};
use denoir_core::backend::Backend;
use denoir_core::{DType, Job, Precision, RunError};
use safetensors::SafeTensors;

/// Forward passes with every block, and the text-to-image network.
pub const FORWARD: [&str; 4] = ["forward/pg-ctx", "forward/pg-xl", "forward/jit", "text/t2i.forward"];
/// Samples that cover every solver and network.
pub const SAMPLES: [&str; 6] = [
    "sample/pg-ctx.heun",
    "sample/pg-ctx.adams2",
    "sample/pg-ctx.unguided",
    "sample/pg-xl.heun",
    "sample/jit.heun-jit",
    "text/t2i.embeds",
];
/// The final samples of upstream and of any device in f32.
pub const SAMPLE_LIMIT: f64 = 1e-3;

/// Describes an error and its share of the limit.
pub fn of_limit(error: f64, limit: f64) -> String {
    format!("{error:.1e} ({:.0}% of its limit)", 100.0 * error / limit)
}

/// A golden and its checkpoint.
pub struct Fixture {
    folder: PathBuf,
    bytes: Vec<u8>,
    meta: HashMap<String, String>,
}

impl Fixture {
    /// `fixtures/NAME.safetensors`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(name: &str) -> Result<Fixture> {
        let path = crate::fixtures().join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let meta = header.metadata().clone().unwrap_or_default();
        Ok(Fixture { folder: path.parent().context("a folder")?.to_owned(), bytes, meta })
    }

    /// The checkpoint, converted to weights of this type.
    ///
    /// # Errors
    /// Whatever conversion or opening reports.
    pub fn model(&self, dtype: DType) -> Result<Arc<Model>> {
        let out = tempfile::tempdir()?;
        let gguf = out.path().join("model.gguf");
        let options = denoir_convert::Options {
            dtype: Some(dtype),
            config: Some(self.folder.join(self.text("config")?)),
            weights: Some(self.text("weights")?.into()),
            ..Default::default()
        };
        denoir_convert::convert(&self.folder.join(self.text("model")?), &gguf, &options, &mut |_| {})?;
        Ok(Arc::new(Model::from_bytes(AlignedBytes::copied(&std::fs::read(gguf)?)?)?))
    }

    /// The allowed ‖Δ‖/‖x̂‖ with weights of this type; in f32 a device is held to 1e-5.
    ///
    /// # Errors
    /// Where the golden has no limit.
    pub fn limit(&self, dtype: DType) -> Result<f64> {
        if dtype == DType::F32 { Ok(1e-5) } else { self.number(&format!("limit.{dtype}")) }
    }

    /// ‖Δ‖/‖x̂‖ over the golden's images.
    ///
    /// # Errors
    /// The denoiser's.
    pub fn forward_error(&self, denoiser: &mut dyn Denoise) -> Result<f64> {
        let (x, t, want) = (self.values("x")?, self.values("t")?, self.values("x_hat")?);
        let (images, pixels) = (t.len(), x.len() / t.len());
        let (mut difference, mut norm) = (0.0, 0.0);
        for (i, &t) in t.iter().enumerate() {
            let pixels = i * pixels..(i + 1) * pixels;
            let mut x_hat = vec![f32::NAN; pixels.len()];
            let mut prepared = match self.values("text") {
                Ok(text) => {
                    let text = text.chunks_exact(text.len() / images).nth(i).context("a text")?;
                    let embeds = PromptEmbeds { prompt: text, negative: text, images: 1 };
                    denoiser.prepare(t.into(), Condition::Prompt(embeds))?
                }
                Err(_) => denoiser.prepare(t.into(), Condition::Labels(&[self.values("label")?[i].to_bits()]))?,
            };
            prepared.predict(&x[pixels.clone()], &mut x_hat)?;
            for (got, want) in x_hat.iter().zip(&want[pixels]) {
                difference += f64::from(got - want).powi(2);
                norm += f64::from(*want).powi(2);
            }
        }
        Ok((difference / norm).sqrt())
    }

    /// Draws the golden's sample twice and returns the largest difference from the golden.
    ///
    /// # Errors
    /// The denoiser's, a value that is not finite, or two images that differ.
    pub fn sample_error(&self, denoiser: &mut dyn Denoise) -> Result<f64> {
        let want = self.values("sample")?;
        let (settings, seeds) = (self.settings()?, [self.number("seed")? as u64]);
        let texts = self.embeds()?;
        let labels: Vec<u32> = self.text("label").and_then(|label| Ok(label.parse()?)).into_iter().collect();
        let condition = match &texts {
            Some([prompt, negative]) => Condition::Prompt(PromptEmbeds { prompt, negative, images: 1 }),
            None => Condition::Labels(&labels),
        };
        let job = Job { settings: &settings, condition, seeds: &seeds, rng: Rng::Torch };
        let mut draw = || -> Result<Vec<f32>> {
            let mut got = vec![f32::NAN; want.len()];
            denoiser.generate(&job, &mut got, &mut |_| ControlFlow::Continue(()))?;
            Ok(got)
        };
        let got = draw()?;
        ensure!(got.iter().all(|x| x.is_finite()), "a value is not finite");
        ensure!(got == draw()?, "the same image again differs");
        Ok(got.iter().zip(&want).map(|(got, want)| f64::from((got - want).abs())).fold(0.0, f64::max))
    }

    /// The embeddings of prompt and negative prompt, for a golden drawn from them.
    fn embeds(&self) -> Result<Option<[Vec<f32>; 2]>> {
        let Ok(file) = self.text("prompt_embeds") else { return Ok(None) };
        let bytes = std::fs::read(self.folder.join(file))?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        let read = |name| -> Result<Vec<f32>> {
            let (words, _) = tensors.tensor(name)?.data().as_chunks::<4>();
            Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        };
        Ok(Some([read("prompt_embeds")?, read("negative_prompt_embeds")?]))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(SafeTensors::deserialize(&self.bytes)?.tensor(name)?.data()))
    }

    fn text(&self, key: &str) -> Result<&str> {
        Ok(self.meta.get(key).with_context(|| format!("no {key}"))?)
    }

    fn number(&self, key: &str) -> Result<f64> {
        Ok(self.text(key)?.parse()?)
    }

    fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            method: Method::from_name(self.text("method")?).context("a method")?,
            steps: self.text("steps")?.parse()?,
            cfg_scale: self.number("cfg_scale")?,
            guidance_interval: (self.number("guidance_lo")?, self.number("guidance_hi")?),
            flow_shift: self.number("flow_shift")?,
            noise_scale: self.number("noise_scale")?,
            order: self.text("order")?.parse()?,
        })
    }
}

/// Calls `f` with a model, planned for one image, on a backend that `open` creates with an arena of the required size.
///
/// # Errors
/// Those of `open` and `f`.
pub fn with_denoiser<B: Backend, T>(
    model: &Model,
    precision: Precision,
    open: impl FnOnce(usize) -> Result<B>,
    f: impl FnOnce(&mut dyn Denoise) -> Result<T>,
) -> Result<T>
where
    Error: From<RunError<B::Error>>,
{
    let backend = open(model.network().arena_bytes(1, precision)?)?;
    model.network().with_denoiser(1, backend, f)
}

/// Draws a small image in two steps.
///
/// # Errors
/// The denoiser's.
pub fn draw(denoiser: &mut dyn Denoise, pixels: usize) -> Result<Vec<f32>> {
    let settings = Settings { steps: 2, ..crate::settings() };
    let mut image = vec![0.0; pixels];
    let job = Job { settings: &settings, condition: Condition::Labels(&[1]), seeds: &[1], rng: Rng::Philox };
    // Looks at every prediction, so that each evaluation is waited for and a read may fail.
    denoiser.generate(&job, &mut image, &mut |progress| {
        progress.x_hat()?;
        ControlFlow::Continue(())
    })?;
    Ok(image)
}
