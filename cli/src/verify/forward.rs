//! `forward`: compares every named intermediate tensor of one evaluation of a network.

use std::collections::HashMap;

use denoir::core::backend::Tap;
use denoir::core::{DType, View};
use denoir::{Condition, Pipeline, PromptEmbeds};

use super::fixture::Fixture;
use super::models::Models;
use super::outcome::{Check, Verdict};
use crate::error::Error;

/// Intermediate tensors by name.
type Taps = HashMap<String, Vec<f32>>;

pub(super) fn verify(fixture: &Fixture, models: &mut Models) -> Result<Verdict, Error> {
    let limit = models.forward_limit(fixture)?;
    let mut pipeline = models.pipeline(fixture)?;
    let (x, t) = (fixture.typed("x", DType::F32)?.f32(), fixture.typed("t", DType::F32)?.f32());
    let pixels = pipeline.model().network().pixels();
    let subjects = Subjects::read(fixture, t.len())?;
    if x.len() != t.len() * pixels {
        return Err(fixture.error("x and t are of different batches"));
    }
    // Images have times of their own here, so each is a pass of its own, and the tensors are joined again.
    let mut taps = Taps::new();
    for (i, (x, &t)) in x.chunks_exact(pixels).zip(&t).enumerate() {
        for (name, values) in evaluate(&mut pipeline, x, t, subjects.condition(i))? {
            taps.entry(name).or_default().extend(values);
        }
    }
    let compare = |name: &str| {
        let want = fixture.typed(name, DType::F32)?.f32();
        let got = taps.get(name).ok_or_else(|| fixture.error(&format!("the engine has no tensor {name:?}")))?;
        Ok(Check::relative(name, got, &want, limit))
    };
    Ok(Verdict::Checked(fixture.parameter("taps")?.split(',').map(compare).collect::<Result<_, Error>>()?))
}

/// The condition of the images.
enum Subjects {
    /// One class per image.
    Labels(Vec<u32>),
    /// The texts of all images in sequence, and their number.
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

/// Compares every tensor of one pass over one image.
fn evaluate(pipeline: &mut Pipeline, x: &[f32], t: f32, condition: Condition<'_>) -> Result<Taps, Error> {
    let mut taps = Taps::new();
    let mut tap = |name: Tap, _: &View, bytes: &[u8]| {
        let values = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        taps.insert(name.to_string(), values);
    };
    let mut x_hat = vec![0.0; x.len()];
    pipeline.with_tap(&mut tap, |denoiser| denoiser.prepare(t.into(), condition)?.predict(x, &mut x_hat))?;
    Ok(taps)
}
