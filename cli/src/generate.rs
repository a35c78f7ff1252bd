//! `denoir generate`: draws images.

mod describe;
mod frames;
mod numbered;
mod options;
mod preview;
mod sink;
mod term;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use denoir::core::RunError;
use denoir::{Condition, EncodedPrompt, Image, Model, Pipeline, Request, Rounding, Settings};

pub(crate) use options::Args;

use crate::error::Error;
use crate::reporter::{Reporter, Verbosity, step_message};
use crate::{class, interrupt, model, stdout, text};
use describe::{Job, Timing};
use frames::Frames;
use preview::Preview;
use sink::Sink;

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let loading = Instant::now();
    let target = options::target(args)?;
    let model = model::open(args.model.as_deref(), args.load.loading())?;
    let job = options::job(args, &model)?;
    interrupt::catch();
    let progress = Reporter::new(Verbosity::new(args.quiet, args.verbose));
    // Before the pipeline reserves its memory: the encoder is gone by then.
    let prompt = encode_prompt(args, &model, &job, &progress)?;
    let mut drawing = Drawing {
        prompt,
        sink: Sink::new(target, &job, args.grid, !args.no_metadata)?,
        preview: args.preview.as_deref().map(Preview::new).transpose()?,
        frames: args.trajectory.as_deref().map(|to| Frames::new(to, args.grid, &job)).transpose()?,
        rounding: model.rounding(),
        progress,
        job,
    };
    let mut pipeline = Pipeline::new(model, &args.engine.options(1))?;
    drawing.introduce(&pipeline, args);
    let load = loading.elapsed();
    let start = Instant::now();
    let mut times = Vec::new();
    for number in 0..drawing.job.images.len() {
        let start = Instant::now();
        drawing.draw(&mut pipeline, number)?;
        times.push(start.elapsed());
    }
    let timing = Timing { load, sample: start.elapsed(), images: &times };
    drawing.finish(&timing)?;
    if args.json {
        stdout::json(&describe::report(&drawing.job, &pipeline, drawing.outputs(), &timing))?;
    }
    Ok(())
}

/// The text of the images, for a text-to-image model.
fn encode_prompt(args: &Args, model: &Model, job: &Job, progress: &Reporter) -> Result<Option<EncodedPrompt>, Error> {
    let (Some(size), Some(source)) = (model.network().text_size(), &job.source) else { return Ok(None) };
    let start = Instant::now();
    let (options, loading) = (args.engine.options(1), args.load.loading());
    let prompt = source.read(size, &options, loading, &mut |line| progress.note(line))?;
    progress.detail(&format!("text encoded in {}", text::seconds(start.elapsed().as_secs_f64())));
    Ok(Some(prompt))
}

/// A running job.
struct Drawing {
    prompt: Option<EncodedPrompt>,
    job: Job,
    sink: Sink,
    preview: Option<Preview>,
    frames: Option<Frames>,
    rounding: Rounding,
    progress: Reporter,
}

impl Drawing {
    /// Prints what will be drawn, and on which device.
    fn introduce(&self, pipeline: &Pipeline, args: &Args) {
        let model = pipeline.model();
        let class = self.job.images[0].class.filter(|_| args.class.is_empty() && args.model.is_some());
        if let Some(class) = class {
            let (first, classes) = (class::describe(model, class), model.network().classes());
            self.progress.note(&format!("no --class given: drawing class {first} of {classes}"));
        }
        for warning in pipeline.warnings() {
            self.progress.note(warning);
        }
        let (device, threads) = (pipeline.device(), pipeline.threads());
        let place = match pipeline.isa() {
            Some(isa) => format!("{} on {threads} {}", isa.name(), text::plural(threads, "thread", "threads")),
            None => format!("{} with {}", device.name, device.levels.join(", ")),
        };
        self.progress.detail(&format!(
            "{}: {} of {} weights, {} of activations, {place}",
            self.job.model_name,
            text::bytes(model.bytes().len() as u64),
            model.network().weight_type(),
            text::bytes(pipeline.arena_bytes() as u64),
        ));
        self.progress.detail(&self.job.settings_text());
    }

    /// Draws one image.
    fn draw(&mut self, pipeline: &mut Pipeline, number: usize) -> Result<(), Error> {
        let (image, prompt) = (&self.job.images[number], self.prompt.clone());
        let (seed, settings, rng) = (image.seed, self.job.settings, self.job.rng);
        let labels: Vec<u32> = image.class.into_iter().collect();
        let condition = match &prompt {
            Some(prompt) => Condition::Prompt(prompt.embeds(1)),
            None => Condition::Labels(&labels),
        };
        let request = Request { condition, seed, rng, settings };
        let (start, costs) = (Instant::now(), Costs::new(&settings));
        let (mut seen, mut failure) = (0, None);
        let result = pipeline.generate(&request, &mut |p| {
            self.show_progress(number, costs.part(p.evaluation), p.step, start.elapsed());
            // The last step's prediction is the image itself, which follows.
            let new_step = p.step > seen && p.step < p.steps;
            seen = p.step;
            let step = p.step;
            let shown = if new_step && self.shows_steps() { self.show_step(number, step, p.x_hat()?) } else { Ok(()) };
            match shown {
                Ok(()) if !interrupt::requested() => ControlFlow::Continue(()),
                result => {
                    failure = result.err();
                    ControlFlow::Break(())
                }
            }
        });
        match (result, failure) {
            (Err(denoir::Error::Run(RunError::Cancelled)), Some(failure)) => Err(failure),
            (result, _) => result?.iter().try_for_each(|image| self.keep(number, image)),
        }
    }

    fn show_progress(&mut self, number: usize, part: f64, step: usize, elapsed: Duration) {
        let (images, steps) = (self.job.images.len(), self.job.settings.steps as usize);
        let done = (number as f64 + part) / images as f64;
        self.progress.update(done, &|| {
            let step = step_message(step, steps, elapsed);
            if images == 1 { step } else { format!("image {}/{images}, {step}", number + 1) }
        });
    }

    /// Returns whether anything shows the prediction after a step.
    fn shows_steps(&self) -> bool {
        self.frames.is_some() || self.preview.is_some()
    }

    /// Shows the prediction after a step.
    fn show_step(&mut self, number: usize, step: usize, x_hat: &[f32]) -> Result<(), Error> {
        if let Some(frames) = &mut self.frames {
            frames.add_step(number, step, x_hat, self.job.side, self.rounding);
        }
        match &mut self.preview {
            Some(preview) => preview.show(x_hat, self.job.side, self.rounding, &self.progress),
            None => Ok(()),
        }
    }

    /// Stores a finished image.
    fn keep(&mut self, number: usize, image: &Image) -> Result<(), Error> {
        if let Some(preview) = &mut self.preview {
            preview.show(&image.sample, self.job.side, self.rounding, &self.progress)?;
            preview.next_image();
        }
        if let Some(frames) = &mut self.frames {
            frames.add_image(number, &image.sample, self.job.side, self.rounding)?;
        }
        self.sink.add(number, image, self.rounding, &self.job)
    }

    /// Writes the files kept until the end, and prints which were written.
    fn finish(&mut self, timing: &Timing<'_>) -> Result<(), Error> {
        self.sink.finish(&self.job)?;
        if let Some(frames) = &mut self.frames {
            frames.finish()?;
        }
        self.progress.finish();
        for (path, number) in &self.sink.written {
            self.progress.note(&format!("{}: {}", path.display(), self.job.summary(*number)));
        }
        for path in self.frames.iter().flat_map(|frames| &frames.written) {
            self.progress.note(&format!("{}: animation", path.display()));
        }
        let (images, steps) = (self.job.images.len(), self.job.settings.steps);
        let total = timing.sample.as_secs_f64();
        self.progress.note(&format!(
            "{images} {} of {steps} {} in {} ({}/step)",
            text::plural(images, "image", "images"),
            text::plural(steps as usize, "step", "steps"),
            text::seconds(total),
            text::pace(total / (images * steps as usize) as f64),
        ));
        Ok(())
    }

    /// Every file written, for `--json`.
    fn outputs(&self) -> serde_json::Value {
        let frames = self.frames.iter().flat_map(|frames| &frames.written);
        let pictures = self.sink.written.iter().map(|(path, _)| path);
        pictures.chain(frames).map(|path| path.to_string_lossy()).collect()
    }
}

/// The cost of an image's evaluations: a guided one takes two passes of the network.
struct Costs {
    /// Number of passes up to and including each evaluation.
    cumulated: Vec<usize>,
}

impl Costs {
    fn new(settings: &Settings) -> Costs {
        let passes = |i| 1 + usize::from(settings.evaluation(i).guidance.is_some());
        let sum = |total: &mut usize, i| {
            *total += passes(i);
            Some(*total)
        };
        Costs { cumulated: (0..settings.evaluations()).scan(0, sum).collect() }
    }

    /// The fraction of an image's work that is done after this many evaluations.
    fn part(&self, evaluations: usize) -> f64 {
        let done = evaluations.checked_sub(1).and_then(|i| self.cumulated.get(i)).copied().unwrap_or(0);
        done as f64 / self.cumulated.last().copied().unwrap_or(1).max(1) as f64
    }
}
