//! Times the evaluations of sampling runs.
//!
//! A run has as many unguided steps as one chunk of modulation vectors covers. The first evaluation computes those
//! vectors for all steps; the later ones run only the network, and a few of them are enough.

use std::ops::ControlFlow;
use std::time::Instant;

use denoir::core::RunError;
use denoir::{BackendKind, Condition, EncodedPrompt, KernelTime, Method, Pipeline, Request, Rng, Settings};

use crate::error::Error;
use crate::interrupt;
use crate::reporter::Reporter;

/// Medians in milliseconds.
pub(super) struct Times {
    /// Median time of one pass of the network.
    pub(super) predict_ms: f64,
    /// Time of the fastest pass.
    pub(super) best_predict_ms: f64,
    /// One pass's share of the modulation vectors.
    pub(super) modulation_ms: f64,
    /// One pass by the device's own clock, from its first kernel to its last, if the device reports it.
    pub(super) device_ms: Option<f64>,
}

impl Times {
    /// One whole evaluation.
    pub(super) fn forward_ms(&self) -> f64 {
        self.predict_ms + self.modulation_ms
    }
}

pub(super) fn measure(
    pipeline: &mut Pipeline,
    batch: usize,
    runs: usize,
    progress: &mut Reporter,
) -> Result<Times, Error> {
    let (chunk, subject) = (pipeline.chunk_times(), Subject::new(pipeline, batch));
    let request = subject.request(chunk);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    // One evaluation warms up: pages of the weights come from the disk, threads start.
    evaluations(pipeline, &request, 1)?;
    pipeline.take_device_times()?;
    for run in 0..runs {
        progress.update(run as f64 / runs as f64, &|| format!("run {}/{runs}", run + 1));
        let times = evaluations(pipeline, &request, TIMED)?;
        with.push(times[0]);
        without.extend(&times[1 + usize::from(chunk == 1)..]);
    }
    let mut on_device = pipeline.take_device_times()?;
    let predict_ms = median(&mut without);
    Ok(Times {
        device_ms: Some(median(&mut on_device)).filter(|ms| *ms > 0.0),
        predict_ms,
        best_predict_ms: without.first().copied().unwrap_or(predict_ms),
        modulation_ms: (median(&mut with) - predict_ms).max(0.0) / chunk as f64,
    })
}

/// The time of each kernel of one evaluation, if the device reports it.
pub(super) fn kernels(pipeline: &mut Pipeline, batch: usize) -> Result<Vec<KernelTime>, Error> {
    if pipeline.device().backend == BackendKind::Cpu {
        return Ok(Vec::new());
    }
    let (chunk, subject) = (pipeline.chunk_times(), Subject::new(pipeline, batch));
    let request = subject.request(chunk);
    let mut result = Ok(());
    let times = pipeline.with_kernel_times(|pipeline| {
        result = evaluations(pipeline, &request, 1).map(|_| ());
        Ok(())
    });
    result?;
    Ok(times?)
}

/// The condition of the images.
struct Subject {
    labels: Vec<u32>,
    prompt: Option<EncodedPrompt>,
}

impl Subject {
    fn new(pipeline: &Pipeline, batch: usize) -> Subject {
        let network = pipeline.model().network();
        let classes = network.classes().max(1);
        let prompt = network.text_size().map(|(tokens, width)| {
            let values: Vec<f32> = (0..tokens * width).map(|i| (i as f32).sin()).collect();
            EncodedPrompt { prompt: values.clone(), negative: values }
        });
        Subject { labels: (0..batch).map(|i| (i % classes) as u32).collect(), prompt }
    }

    /// A run with as many unguided steps as one chunk of modulation vectors covers.
    fn request(&self, chunk: usize) -> Request<'_> {
        let settings = Settings {
            // Where vectors are made for one step at a time, Heun's third evaluation is the first without that work.
            method: if chunk == 1 { Method::Heun } else { Method::Euler },
            steps: chunk.max(2) as u32,
            cfg_scale: 1.0,
            guidance_interval: (0.0, 1.0),
            flow_shift: 1.0,
            noise_scale: 1.0,
            order: 1,
        };
        let condition = match &self.prompt {
            Some(prompt) => Condition::Prompt(prompt.embeds(self.labels.len())),
            None => Condition::Labels(&self.labels),
        };
        Request { condition, seed: 1, rng: Rng::Philox, settings }
    }
}

/// Number of evaluations timed per run, including the first.
const TIMED: usize = 3;

/// Times the first evaluations of a run, in milliseconds, then stops the run.
fn evaluations(pipeline: &mut Pipeline, request: &Request<'_>, count: usize) -> Result<Vec<f64>, Error> {
    let timed = count.min(request.settings.evaluations());
    let mut times = Vec::with_capacity(timed);
    let mut last = Instant::now();
    let result = pipeline.generate(request, &mut |progress| {
        // Waits for the device.
        progress.x_hat()?;
        times.push(last.elapsed().as_secs_f64() * 1e3);
        if times.len() == timed || interrupt::requested() {
            return ControlFlow::Break(());
        }
        last = Instant::now();
        ControlFlow::Continue(())
    });
    match result {
        Err(denoir::Error::Run(RunError::Cancelled)) if !interrupt::requested() => Ok(times),
        other => other.map(|_| times).map_err(Error::from),
    }
}

/// Sorts the values and returns the median; 0 for an empty list.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
