//! `forward`: one evaluation of a network, every named intermediate tensor.

use std::collections::HashMap;
use std::sync::Arc;

use denoir::core::backend::Tap;
use denoir::core::{DType, View};
use denoir::{Condition, Denoise, Model, Pipeline, PromptEmbeds};

use crate::check::{Check, Verdict};
use crate::error::Error;
use crate::fixture::{Fixture, floats};
use crate::models::Models;

pub(crate) fn verify(fixture: Fixture, models: &mut Models) -> Result<Verdict, Error> {
    let forward = Forward::read(fixture, models)?;
    let mut pipeline = Pipeline::new(Arc::clone(forward.model()), &models.options)?;
    Ok(Verdict::Checked(forward.check_taps(&mut pipeline)?))
}

/// A forward pass to repeat.
#[derive(Debug)]
pub struct Forward {
    fixture: Fixture,
    model: Arc<Model>,
    limit: f64,
    x: Vec<f32>,
    t: Vec<f32>,
    subjects: Subjects,
}

impl Forward {
    /// The pass of a fixture of the kind `forward`.
    ///
    /// # Errors
    /// [`Error`] for a fixture that cannot be used, or a model that cannot be converted.
    pub fn read(fixture: Fixture, models: &mut Models) -> Result<Forward, Error> {
        let (limit, model) = (models.forward_limit(&fixture)?, models.model(&fixture)?);
        let (x, t) = (fixture.typed("x", DType::F32)?.f32(), fixture.typed("t", DType::F32)?.f32());
        let subjects = Subjects::read(&fixture, t.len())?;
        if x.len() != t.len() * model.network().pixels() {
            return Err(fixture.error("x and t are of different batches"));
        }
        Ok(Forward { fixture, model, limit, x, t, subjects })
    }

    /// The network, with room for one image to be run with.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Compares x̂ alone, as a denoiser without taps computes it.
    ///
    /// # Errors
    /// The denoiser's.
    pub fn check(&self, denoiser: &mut dyn Denoise) -> Result<Check, Error> {
        let mut x_hat = Vec::new();
        for image in 0..self.t.len() {
            x_hat.extend(self.predict(image, denoiser)?);
        }
        self.compare("x_hat", Some(&x_hat))
    }

    /// Compares every named tensor, in the order of execution.
    ///
    /// # Errors
    /// The pipeline's, or [`Error::Fixture`] for tensors that one of both sides lacks.
    pub fn check_taps(&self, pipeline: &mut Pipeline) -> Result<Vec<Check>, Error> {
        let mut taps: HashMap<String, Vec<f32>> = HashMap::new();
        for image in 0..self.t.len() {
            let mut of_image = HashMap::new();
            let mut tap = |name: Tap, _: &View, bytes: &[u8]| drop(of_image.insert(name.to_string(), floats(bytes)));
            pipeline.with_tap(&mut tap, |denoiser| self.predict(image, denoiser))?;
            for (name, values) in of_image {
                taps.entry(name).or_default().extend(values);
            }
        }
        let compare = |name| self.compare(name, taps.get(name).map(Vec::as_slice));
        self.fixture.parameter("taps")?.split(',').map(compare).collect()
    }

    /// x̂ of one image. Images have times of their own here, so each is a pass of its own.
    fn predict(&self, image: usize, denoiser: &mut dyn Denoise) -> Result<Vec<f32>, denoir::Error> {
        let mut x_hat = vec![f32::NAN; self.model.network().pixels()];
        let x = &self.x[image * x_hat.len()..][..x_hat.len()];
        denoiser.prepare(self.t[image].into(), self.subjects.condition(image))?.predict(x, &mut x_hat)?;
        Ok(x_hat)
    }

    fn compare(&self, name: &str, got: Option<&[f32]>) -> Result<Check, Error> {
        let want = self.fixture.typed(name, DType::F32)?.f32();
        let got = got.ok_or_else(|| self.fixture.error(&format!("the engine has no tensor {name:?}")))?;
        Ok(Check::relative(name, got, &want, self.limit))
    }
}

/// What the images show.
#[derive(Debug)]
enum Subjects {
    /// A class each.
    Labels(Vec<u32>),
    /// A text each, one after another, and how many.
    Texts(Vec<f32>, usize),
}

impl Subjects {
    fn read(fixture: &Fixture, images: usize) -> Result<Subjects, Error> {
        if fixture.has("text") {
            return Ok(Subjects::Texts(fixture.typed("text", DType::F32)?.f32(), images));
        }
        let labels = fixture.typed("label", DType::U32)?.u32();
        if labels.len() != images {
            return Err(fixture.error("t and label are of different batches"));
        }
        Ok(Subjects::Labels(labels))
    }

    fn condition(&self, image: usize) -> Condition<'_> {
        match self {
            Subjects::Labels(labels) => Condition::Labels(&labels[image..=image]),
            Subjects::Texts(texts, images) => {
                let values = texts.len() / images;
                let prompt = &texts[image * values..(image + 1) * values];
                Condition::Prompt(PromptEmbeds { prompt, negative: prompt, images: 1 })
            }
        }
    }
}
