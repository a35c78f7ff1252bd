//! Erases the types of networks and backends: code below is generic over both, code above uses [`Denoise`].

use std::ops::ControlFlow;

use denoir_core::backend::Backend;
use denoir_core::jit::JitModel;
use denoir_core::t2i::{PromptEmbeds, T2iModel};
use denoir_core::{Denoiser, Job, Network, Prepared, Progress, RunError};

use crate::Error;

/// The condition of the images.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'c> {
    /// One class per image.
    Labels(&'c [u32]),
    /// One prompt for all images.
    Prompt(PromptEmbeds<'c>),
}

impl<'c> Condition<'c> {
    /// Number of images.
    pub const fn images(&self) -> usize {
        match self {
            Condition::Labels(labels) => labels.len(),
            Condition::Prompt(embeds) => embeds.images,
        }
    }

    /// The condition of images `first..first + count`.
    pub(crate) fn part(self, first: usize, count: usize) -> Condition<'c> {
        match self {
            Condition::Labels(labels) => Condition::Labels(labels.get(first..first + count).unwrap_or(&[])),
            Condition::Prompt(embeds) => Condition::Prompt(PromptEmbeds { images: count, ..embeds }),
        }
    }
}

/// A [`Denoiser`] for any network and backend.
pub trait Denoise {
    /// Draws `job.seeds.len()` images into `images`.
    ///
    /// # Errors
    /// As [`Denoiser::generate`]; [`Error::Condition`] for a condition of the wrong kind.
    fn generate(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// The same, but leaves the images on the device.
    ///
    /// # Errors
    /// As [`Denoise::generate`].
    fn draw(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// Prepares single evaluations of the network, without sampling, at one time and under one condition.
    ///
    /// # Errors
    /// As [`Denoiser::prepare`]; [`Error::Condition`] for a condition of the wrong kind.
    fn prepare<'d>(&'d mut self, t: f64, condition: Condition<'_>) -> Result<Box<dyn Predict + 'd>, Error>;
}

/// A [`Prepared`] denoiser for any network and backend.
pub trait Predict {
    /// Evaluates the network once for the condition's images, from `x` to `x_hat`, both `(images, C, H, W)`.
    ///
    /// # Errors
    /// As [`Prepared::predict`].
    fn predict(&mut self, x: &[f32], x_hat: &mut [f32]) -> Result<(), Error>;
}

/// A network that takes one kind of condition.
pub(crate) trait Conditioned: Network {
    fn condition(condition: Condition<'_>) -> Result<Self::Condition<'_>, Error>;
}

impl Conditioned for JitModel {
    fn condition(condition: Condition<'_>) -> Result<&[u32], Error> {
        match condition {
            Condition::Labels(labels) => Ok(labels),
            Condition::Prompt(_) => Err(Error::Condition("this model draws classes, not prompts")),
        }
    }
}

impl Conditioned for T2iModel {
    fn condition(condition: Condition<'_>) -> Result<PromptEmbeds<'_>, Error> {
        match condition {
            Condition::Prompt(embeds) => Ok(embeds),
            Condition::Labels(_) => Err(Error::Condition("this model draws prompts, not classes")),
        }
    }
}

/// The job with the condition that the network takes.
fn conditioned<'j, N: Conditioned>(job: &Job<'j, Condition<'j>>) -> Result<Job<'j, N::Condition<'j>>, Error> {
    let Job { settings, condition, seeds, rng } = *job;
    Ok(Job { settings, condition: N::condition(condition)?, seeds, rng })
}

impl<B: Backend, N: Conditioned> Denoise for Denoiser<'_, B, N>
where
    Error: From<RunError<B::Error>>,
{
    fn generate(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        Ok(Denoiser::generate(self, &conditioned::<N>(job)?, images, observe)?)
    }

    fn draw(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        Ok(Denoiser::draw(self, &conditioned::<N>(job)?, images, observe)?)
    }

    fn prepare<'d>(&'d mut self, t: f64, condition: Condition<'_>) -> Result<Box<dyn Predict + 'd>, Error> {
        Ok(Box::new(Denoiser::prepare(self, t, N::condition(condition)?)?))
    }
}

impl<B: Backend, N: Network> Predict for Prepared<'_, '_, B, N>
where
    Error: From<RunError<B::Error>>,
{
    fn predict(&mut self, x: &[f32], x_hat: &mut [f32]) -> Result<(), Error> {
        Ok(Prepared::predict(self, x, x_hat)?)
    }
}
