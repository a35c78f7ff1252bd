//! `forward`: one evaluation of a network, every named intermediate tensor.

use std::collections::HashMap;

use denoir::core::ops::Tap;
use denoir::core::{DType, View};
use denoir::{Condition, Pipeline};

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
    let labels = fixture.typed("label", DType::U32)?.u32();
    let pixels = pipeline.model().network().pixels();
    if x.len() != t.len() * pixels || labels.len() != t.len() {
        return Err(fixture.error("x, t and label are of different batches"));
    }
    // Images have times of their own here, so each is a pass of its own, and the tensors are joined again.
    let mut taps = Taps::new();
    for ((x, &t), &label) in x.chunks_exact(pixels).zip(&t).zip(&labels) {
        for (name, values) in evaluate(&mut pipeline, x, t, label)? {
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

/// Every tensor of one pass over one image.
fn evaluate(pipeline: &mut Pipeline, x: &[f32], t: f32, label: u32) -> Result<Taps, Error> {
    let mut taps = Taps::new();
    let mut tap = |name: Tap, _: &View, bytes: &[u8]| {
        let values = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        taps.insert(name.to_string(), values);
    };
    let mut x_hat = vec![0.0; x.len()];
    pipeline.with_tap(&mut tap, |denoiser| {
        denoiser.prepare(t.into(), Condition::Labels(&[label]))?;
        denoiser.predict(x, &mut x_hat)
    })?;
    Ok(taps)
}
