//! `sample`: compares a whole image, from the seed to 8 bits.

use std::ops::ControlFlow;

use denoir::core::DType;
use denoir::{Condition, Method, Request, Rng, Rounding, Settings};

use super::fixture::Fixture;
use super::models::Models;
use super::outcome::{Check, Verdict};
use crate::error::Error;
use crate::interrupt;

/// Allowed fraction of 8-bit values that are off by one.
const DIFFERENT_U8: f64 = 1e-3;

pub(super) fn verify(fixture: &Fixture, models: &mut Models) -> Result<Verdict, Error> {
    if models.dtype != DType::F32 {
        return Ok(Verdict::Skipped("the limits of whole images are for f32 weights"));
    }
    let mut pipeline = models.pipeline(fixture)?;
    let rounding = fixture.parameter("rounding")?;
    let rounding = Rounding::from_name(rounding).ok_or_else(|| fixture.error("unknown rounding"))?;
    let (labels, encoded) = match pipeline.model().network().text_size() {
        Some(size) => ([0], Some(models.encoded_prompt(fixture, size)?)),
        None => ([fixture.number("label")?], None),
    };
    let condition = encoded.as_ref().map_or(Condition::Labels(&labels), |prompt| Condition::Prompt(prompt.embeds(1)));
    let seed = fixture.number("seed")?;
    let request = Request { condition, seed, rng: Rng::Torch, settings: settings(fixture)? };
    let images = pipeline.generate(&request, &mut |_| match interrupt::requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })?;
    let Some(image) = images.first() else { return Ok(Verdict::Checked(Vec::new())) };
    let want = fixture.typed("sample", DType::F32)?.f32();
    let mut checks = vec![Check::largest("sample", &image.sample, &want, fixture.number("limit.max_abs")?)];
    checks.extend(compare_u8(&image.to_u8(rounding), &fixture.tensor("image_u8")?.bytes));
    Ok(Verdict::Checked(checks))
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
