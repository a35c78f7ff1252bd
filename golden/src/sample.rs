//! `sample`: a whole image, from the seed to 8 bits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use denoir::core::{DType, Job};
use denoir::{Condition, Denoise, EncodedPrompt, Image, Method, Model, Pipeline, Rng, Rounding, Settings};

use crate::check::{Check, Verdict};
use crate::error::Error;
use crate::fixture::Fixture;
use crate::models::Models;

/// The part of 8-bit values that may be off by one.
const DIFFERENT_U8: f64 = 1e-3;

pub(crate) fn verify(fixture: Fixture, models: &mut Models) -> Result<Verdict, Error> {
    if models.dtype != DType::F32 {
        return Ok(Verdict::Skipped("the limits of whole images are for f32 weights"));
    }
    let sample = Sample::read(fixture, models)?;
    let mut pipeline = Pipeline::new(Arc::clone(sample.model()), &models.options)?;
    let image = pipeline.with_denoiser(|denoiser| sample.draw(denoiser))?;
    Ok(Verdict::Checked(sample.check(&image)?))
}

/// An image to draw again.
#[derive(Debug)]
pub struct Sample {
    fixture: Fixture,
    model: Arc<Model>,
    rounding: Rounding,
    subject: Subject,
    seed: u64,
    settings: Settings,
    cancel: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Subject {
    Label(u32),
    Text(EncodedPrompt),
}

impl Sample {
    /// The image of a fixture of the kind `sample`.
    ///
    /// # Errors
    /// [`Error`] for a fixture that cannot be used, or a model that cannot be converted.
    pub fn read(fixture: Fixture, models: &mut Models) -> Result<Sample, Error> {
        let model = models.model(&fixture)?;
        let rounding = fixture.parameter("rounding")?;
        let rounding = Rounding::from_name(rounding).ok_or_else(|| fixture.error("unknown rounding"))?;
        let subject = match model.network().text_size() {
            Some(size) => Subject::Text(models.encoded_prompt(&fixture, size)?),
            None => Subject::Label(fixture.number("label")?),
        };
        let (seed, settings) = (fixture.number("seed")?, settings(&fixture)?);
        Ok(Sample { fixture, model, rounding, subject, seed, settings, cancel: Arc::clone(&models.cancel) })
    }

    /// The network, with room for one image to be run with.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Draws the image.
    ///
    /// # Errors
    /// The denoiser's, or that the models' `cancel` was set.
    pub fn draw(&self, denoiser: &mut dyn Denoise) -> Result<Image, denoir::Error> {
        let network = self.model.network();
        let condition = match &self.subject {
            Subject::Label(label) => Condition::Labels(std::slice::from_ref(label)),
            Subject::Text(text) => Condition::Prompt(text.embeds(1)),
        };
        let job = Job { settings: &self.settings, condition, seeds: &[self.seed], rng: Rng::Torch };
        let mut sample = vec![f32::NAN; network.pixels()];
        denoiser.generate(&job, &mut sample, &mut |_| match self.cancel.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })?;
        let side = network.input_size();
        Ok(Image { channels: network.channels(), width: side, height: side, sample })
    }

    /// Compares an image: its values first, then its 8-bit values.
    ///
    /// # Errors
    /// [`Error::Fixture`] for tensors that it lacks.
    pub fn check(&self, image: &Image) -> Result<Vec<Check>, Error> {
        let (want, limit) = (self.fixture.typed("sample", DType::F32)?.f32(), self.fixture.number("limit.max_abs")?);
        let mut checks = vec![Check::largest("sample", &image.sample, &want, limit)];
        checks.extend(compare_u8(&image.to_u8(self.rounding), &self.fixture.tensor("image_u8")?.bytes));
        Ok(checks)
    }
}

fn settings(fixture: &Fixture) -> Result<Settings, Error> {
    let method = fixture.parameter("method")?;
    Ok(Settings {
        method: Method::from_name(method).ok_or_else(|| fixture.error("unknown method"))?,
        steps: fixture.number("steps")?,
        cfg_scale: fixture.number("cfg_scale")?,
        guidance_interval: (fixture.number("guidance_lo")?, fixture.number("guidance_hi")?),
        flow_shift: fixture.number("flow_shift")?,
        noise_scale: fixture.number("noise_scale")?,
        order: fixture.number("order")?,
    })
}

fn compare_u8(got: &[u8], want: &[u8]) -> [Check; 2] {
    let largest = got.iter().zip(want).map(|(g, w)| g.abs_diff(*w)).max().unwrap_or(0);
    let different = Check::equal("", got, want).error / want.len().max(1) as f64;
    [
        Check { name: "image_u8, largest difference".into(), error: largest.into(), limit: 1.0 },
        Check { name: "image_u8, part that differs".into(), error: different, limit: DIFFERENT_U8 },
    ]
}
