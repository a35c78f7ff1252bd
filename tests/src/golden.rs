//! Whole networks on any backend, compared with PyTorch's results: `fixtures/forward`, `fixtures/sample`,
//! `fixtures/text`.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Result, ensure};
use denoir::{Condition, Denoise, Error, Model, Options, Rng, Settings};
use denoir_core::backend::Backend;
use denoir_core::{DType, Job, Precision, RunError};
use denoir_golden::{Fixture, Forward, Models, Sample};

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

/// `fixtures/NAME.safetensors`.
///
/// # Errors
/// Where it cannot be read.
pub fn fixture(name: &str) -> Result<Fixture> {
    Ok(Fixture::open(&crate::fixtures().join(format!("{name}.safetensors")))?)
}

/// Models with weights of this type.
///
/// # Errors
/// Where there is no room for temporary files.
pub fn models(dtype: DType) -> Result<Models> {
    Ok(Models::new(dtype, Options::default(), Arc::default())?)
}

/// The model of the golden of this name, with weights of this type.
///
/// # Errors
/// Whatever conversion or opening reports.
pub fn model(name: &str, dtype: DType) -> Result<Arc<Model>> {
    Ok(models(dtype)?.model(&fixture(name)?)?)
}

/// All of [`FORWARD`] in every type, with their names.
///
/// # Errors
/// Whatever conversion or opening reports.
pub fn forward_passes() -> Result<Vec<(String, Forward)>> {
    let mut passes = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let mut models = models(dtype)?;
        for name in FORWARD {
            passes.push((format!("{name} in {dtype}"), Forward::read(fixture(name)?, &mut models)?));
        }
    }
    Ok(passes)
}

/// All of [`SAMPLES`] in f32, with their names.
///
/// # Errors
/// Whatever conversion or opening reports.
pub fn samples() -> Result<Vec<(&'static str, Sample)>> {
    let mut models = models(DType::F32)?;
    SAMPLES.map(|name| Ok((name, Sample::read(fixture(name)?, &mut models)?))).into_iter().collect()
}

/// Compares x̂ and says how it is.
///
/// # Errors
/// The denoiser's, or an error over the limit.
pub fn check_forward(what: &str, forward: &Forward, denoiser: &mut dyn Denoise) -> Result<()> {
    let check = forward.check(denoiser)?;
    println!("{what}: {}", of_limit(check.error, check.limit));
    ensure!(check.passed(), "{what}: {:.1e}, not {:.1e}", check.error, check.limit);
    Ok(())
}

/// Draws a sample twice, compares it and says how it is.
///
/// # Errors
/// The denoiser's, a value that is not finite, two images that differ, or a difference over [`SAMPLE_LIMIT`].
pub fn check_sample(what: &str, sample: &Sample, denoiser: &mut dyn Denoise) -> Result<()> {
    let image = sample.draw(denoiser)?;
    ensure!(image.sample.iter().all(|x| x.is_finite()), "{what}: a value is not finite");
    ensure!(image == sample.draw(denoiser)?, "{what}: the same image again differs");
    let worst = sample.check(&image)?[0].error;
    println!("{what}: {}", of_limit(worst, SAMPLE_LIMIT));
    ensure!(worst <= SAMPLE_LIMIT, "{what}: {worst:.1e}");
    Ok(())
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
