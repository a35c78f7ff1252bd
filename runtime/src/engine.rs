//! The one place where networks and backends are erased: everything below is static, everything above sees
//! [`Engine`].

use std::ops::ControlFlow;

use denoir_core::backend::Backend;
use denoir_core::jit::JitModel;
use denoir_core::t2i::{T2iModel, Texts};
use denoir_core::{Denoiser, Job, Network, Progress, RunError};

use crate::Error;

/// What images are conditioned on.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'c> {
    /// A class for each image.
    Labels(&'c [u32]),
    /// One prompt for all images, as embeddings.
    Texts(Texts<'c>),
}

/// A network on a backend, whichever they are. The methods are those of [`Denoiser`].
pub trait Engine {
    /// Draws `job.seeds.len()` images into `images`.
    ///
    /// # Errors
    /// As [`Denoiser::generate`]; [`Error::Condition`] for a condition of the wrong kind.
    fn generate(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// Makes ready for evaluations at one time under a condition.
    ///
    /// # Errors
    /// As [`Denoiser::prepare`]; [`Error::Condition`] for a condition of the wrong kind.
    fn prepare(&mut self, t: f64, condition: Condition<'_>) -> Result<(), Error>;

    /// One evaluation of the network alone.
    ///
    /// # Errors
    /// As [`Denoiser::predict`].
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
            Condition::Texts(_) => Err(Error::Condition("this model draws classes, not prompts")),
        }
    }
}

impl Conditioned for T2iModel {
    fn condition(condition: Condition<'_>) -> Result<Texts<'_>, Error> {
        match condition {
            Condition::Texts(texts) => Ok(texts),
            Condition::Labels(_) => Err(Error::Condition("this model draws prompts, not classes")),
        }
    }
}

impl<B: Backend, N: Conditioned> Engine for Denoiser<'_, B, N>
where
    Error: From<RunError<B::Error>>,
{
    fn generate(
        &mut self,
        job: &Job<'_, Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let condition = N::condition(job.condition)?;
        let job = Job { settings: job.settings, condition, seeds: job.seeds, rng: job.rng };
        Ok(Denoiser::generate(self, &job, images, observe)?)
    }

    fn prepare(&mut self, t: f64, condition: Condition<'_>) -> Result<(), Error> {
        Ok(Denoiser::prepare(self, t, N::condition(condition)?)?)
    }

    fn predict(&mut self, x: &[f32], x_hat: &mut [f32]) -> Result<(), Error> {
        Ok(Denoiser::predict(self, x, x_hat)?)
    }
}
