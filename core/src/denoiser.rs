//! Drives a network through a sampler on a backend: noise in, images out.

use core::ops::ControlFlow;

use heapless::Vec;

use crate::backend::{Backend, Program, run};
use crate::jit::{self, JitModel, JitPlan, MAX_BATCH, MAX_PERIOD, TIMESTEP_WIDTH};
use crate::noise::Rng;
use crate::ops::{OpError, SolverStep};
use crate::sampler::{Evaluation, Settings, SettingsError};

/// Labels of a chunk: one per image at most, and the null class.
type Labels = Vec<u32, { MAX_BATCH + 1 }>;

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Solver, steps, guidance.
    pub settings: &'a Settings,
    /// One class per image, at most the plan's batch.
    pub labels: &'a [u32],
    /// One noise seed per image.
    pub seeds: &'a [u64],
    /// What noise a seed gives.
    pub rng: Rng,
}

/// How far a job is; passed to the observer after every evaluation of the network.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Evaluations done.
    pub evaluation: usize,
    /// Evaluations in all.
    pub evaluations: usize,
    /// Solver steps done.
    pub step: usize,
    /// Solver steps in all.
    pub steps: usize,
    /// Time of the evaluation, 0 (noise) to 1 (image).
    pub t: f64,
    /// `(images, C, H, W)`: the guided prediction of the clean images.
    pub x_hat: &'a [f32],
}

/// Why a job gave no image. `E` is the backend's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The settings make no sampler.
    Settings(SettingsError),
    /// No image, more images than the plan has room for, or as many seeds as labels were not given.
    Batch {
        /// Labels given.
        labels: usize,
        /// Seeds given.
        seeds: usize,
        /// Images that the plan has room for.
        room: usize,
    },
    /// There is no class of this number.
    Label {
        /// The number given.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The output slice has another length than the images need.
    Output {
        /// Values given.
        len: usize,
        /// Values needed.
        needed: usize,
    },
    /// The observer asked to stop.
    Cancelled,
    /// The result holds an infinity or NaN: the weights are damaged, or overflow their type.
    NotFinite,
    /// A kernel failed.
    Op(OpError<E>),
}

impl<E> From<OpError<E>> for RunError<E> {
    fn from(e: OpError<E>) -> Self {
        RunError::Op(e)
    }
}

impl<E: core::fmt::Display> core::fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RunError::Settings(e) => e.fmt(f),
            RunError::Batch { labels, seeds, room } => {
                write!(f, "{labels} labels and {seeds} seeds: there must be as many of both, 1 to {room}")
            }
            RunError::Label { label, classes } => {
                write!(f, "class {label} does not exist: there are {classes}, from 0")
            }
            RunError::Output { len, needed } => write!(f, "the output holds {len} values, the images need {needed}"),
            RunError::Cancelled => f.write_str("cancelled"),
            RunError::NotFinite => {
                f.write_str("the image is not finite: the weights are damaged or overflow their type")
            }
            RunError::Op(e) => e.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for RunError<E> {}

/// A network with its activations on a backend.
#[derive(Debug)]
pub struct Denoiser<'m, B> {
    model: &'m JitModel,
    plan: JitPlan,
    backend: B,
}

impl<'m, B: Backend> Denoiser<'m, B> {
    /// Takes a backend whose regions hold the model file and `plan.arena_bytes`.
    ///
    /// # Errors
    /// What the backend reports.
    pub fn new(model: &'m JitModel, plan: JitPlan, backend: B) -> Result<Self, OpError<B::Error>> {
        let mut denoiser = Denoiser { model, plan, backend };
        denoiser.write_rope().map_err(OpError::Device)?;
        Ok(denoiser)
    }

    /// The plan.
    pub fn plan(&self) -> &JitPlan {
        &self.plan
    }

    /// The backend.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Draws `job.labels.len()` images into `images`, `(images, C, H, W)` in [-1, 1] before clipping.
    ///
    /// `images` serves as the host's only buffer: for the noise, then for the predictions that `observe` is shown.
    /// `observe` is called after every evaluation and can stop the job.
    ///
    /// # Errors
    /// [`RunError`]; `images` then holds nothing of use.
    pub fn generate(
        &mut self,
        job: &Job<'_>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), RunError<B::Error>> {
        self.check(job, images)?;
        let count = job.labels.len();
        let pixels = self.model.config.pixels();
        for (image, &seed) in images.chunks_mut(pixels).zip(job.seeds) {
            job.rng.fill(seed, image);
            image.iter_mut().for_each(|x| *x *= job.settings.noise_scale as f32);
        }
        self.start(images).map_err(OpError::Device)?;
        let labels = self.chunk_labels(job);
        self.write_labels(job).map_err(OpError::Device)?;

        let evaluations = job.settings.evaluations();
        let mut chunk = 0..0;
        for i in 0..evaluations {
            let e = job.settings.evaluation(i);
            if !chunk.contains(&e.time_index) {
                chunk = e.time_index..(e.time_index + self.plan.chunk_times).min(job.settings.steps as usize);
                self.modulation(job.settings, chunk.clone(), &labels)?;
            }
            self.select(&e, e.time_index - chunk.start, job, &labels).map_err(OpError::Device)?;
            self.evaluate(count, e.guidance.is_some())?;
            let x_hat = self.plan.x_hat.rows_from(0, count);
            self.backend.read(&x_hat, bytemuck::cast_slice_mut(images)).map_err(OpError::Device)?;
            let progress = Progress {
                evaluation: i + 1,
                evaluations,
                step: e.step + usize::from(e.last_of_step),
                steps: job.settings.steps as usize,
                t: e.t,
                x_hat: images,
            };
            if observe(&progress).is_break() {
                return Err(RunError::Cancelled);
            }
        }
        let x = self.plan.x.rows_from(0, count);
        self.backend.read(&x, bytemuck::cast_slice_mut(images)).map_err(OpError::Device)?;
        if images.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(RunError::NotFinite) }
    }

    /// Makes the modulation vectors of one time point for these labels, one label per image of the passes that
    /// follow. The null class is a label like the others here.
    ///
    /// # Errors
    /// [`RunError`] for an unusable batch or label, or what the backend reports.
    pub fn prepare(&mut self, t: f64, labels: &[u32]) -> Result<(), RunError<B::Error>> {
        self.check_batch(labels, labels.len(), self.model.config.classes + 1)?;
        let mut distinct = Labels::new();
        labels.iter().for_each(|&l| insert(&mut distinct, l));
        self.waves(core::iter::once(t)).map_err(OpError::Device)?;
        self.write_chunk_labels(&distinct).map_err(OpError::Device)?;
        self.run_modulation(1, distinct.len())?;
        self.write_rows(labels.iter().map(|&l| position(&distinct, l))).map_err(OpError::Device)?;
        let view = self.plan.labels.cols_from(0, labels.len());
        self.backend.write(&view, bytemuck::cast_slice(labels)).map_err(OpError::Device)?;
        Ok(())
    }

    /// One evaluation of the network alone, at the time and with the labels of the last [`Denoiser::prepare`]: from
    /// `x` to `x_hat`, both `(images, C, H, W)`.
    ///
    /// # Errors
    /// [`RunError::Output`] unless both hold the same number of whole images, at most the plan's batch, else what the
    /// backend reports.
    pub fn predict(&mut self, x: &[f32], x_hat: &mut [f32]) -> Result<(), RunError<B::Error>> {
        let images = (x.len() / self.model.config.pixels()).clamp(1, self.plan.batch);
        self.check_output(x.len(), images)?;
        self.check_output(x_hat.len(), images)?;
        self.start(x).map_err(OpError::Device)?;
        let (model, plan) = (self.model, self.plan.of_images(images));
        run(&mut self.backend, Program::Predict { images }, |k| jit::forward(k, model, &plan, images))?;
        let out = self.plan.x_hat.rows_from(0, images);
        self.backend.read(&out, bytemuck::cast_slice_mut(x_hat)).map_err(OpError::Device)?;
        Ok(())
    }

    fn check(&self, job: &Job<'_>, images: &[f32]) -> Result<(), RunError<B::Error>> {
        job.settings.check().map_err(RunError::Settings)?;
        self.check_batch(job.labels, job.seeds.len(), self.model.config.classes)?;
        self.check_output(images.len(), job.labels.len())
    }

    fn check_batch(&self, labels: &[u32], seeds: usize, classes: usize) -> Result<(), RunError<B::Error>> {
        if labels.is_empty() || labels.len() > self.plan.batch || seeds != labels.len() {
            return Err(RunError::Batch { labels: labels.len(), seeds, room: self.plan.batch });
        }
        match labels.iter().find(|&&label| label as usize >= classes) {
            Some(&label) => Err(RunError::Label { label, classes }),
            None => Ok(()),
        }
    }

    fn check_output(&self, len: usize, images: usize) -> Result<(), RunError<B::Error>> {
        let needed = images * self.model.config.pixels();
        if len == needed { Ok(()) } else { Err(RunError::Output { len, needed }) }
    }

    /// Writes the starting state.
    fn start(&mut self, x: &[f32]) -> Result<(), B::Error> {
        let rows = x.len() / self.model.config.pixels();
        self.backend.write(&self.plan.x.rows_from(0, rows), bytemuck::cast_slice(x))?;
        self.backend.write(&self.plan.x_eval.rows_from(0, rows), bytemuck::cast_slice(x))
    }

    /// The distinct labels of a job, the null class among them where any evaluation is guided.
    fn chunk_labels(&self, job: &Job<'_>) -> Labels {
        let mut labels = Labels::new();
        job.labels.iter().for_each(|&label| insert(&mut labels, label));
        if (0..job.settings.evaluations()).any(|i| job.settings.evaluation(i).guidance.is_some()) {
            insert(&mut labels, self.model.config.null_label() as u32);
        }
        labels
    }

    /// Labels of the images of a pass: the job's, then the null class for the second branch.
    fn write_labels(&mut self, job: &Job<'_>) -> Result<(), B::Error> {
        let mut labels: Vec<u32, { 2 * MAX_BATCH }> = job.labels.iter().copied().collect();
        labels.extend(job.labels.iter().map(|_| self.model.config.null_label() as u32));
        self.backend.write(&self.plan.labels.cols_from(0, labels.len()), bytemuck::cast_slice(&labels))
    }

    fn write_chunk_labels(&mut self, labels: &Labels) -> Result<(), B::Error> {
        self.backend.write(&self.plan.chunk_labels.cols_from(0, labels.len()), bytemuck::cast_slice(labels))
    }

    fn modulation(
        &mut self,
        settings: &Settings,
        times: core::ops::Range<usize>,
        labels: &Labels,
    ) -> Result<(), RunError<B::Error>> {
        self.waves(times.clone().map(|i| settings.time(i))).map_err(OpError::Device)?;
        self.write_chunk_labels(labels).map_err(OpError::Device)?;
        self.run_modulation(times.len(), labels.len())
    }

    fn run_modulation(&mut self, times: usize, labels: usize) -> Result<(), RunError<B::Error>> {
        let (model, plan) = (self.model, &self.plan);
        run(&mut self.backend, Program::Modulation { times, labels }, |k| {
            jit::modulation(k, model, plan, times, labels)
        })?;
        Ok(())
    }

    /// Sinusoids of the time points: 128 cosines, then 128 sines.
    fn waves(&mut self, times: impl Iterator<Item = f64>) -> Result<(), B::Error> {
        for (row, t) in times.enumerate() {
            let mut wave = [0f32; TIMESTEP_WIDTH];
            let (cos, sin) = wave.split_at_mut(TIMESTEP_WIDTH / 2);
            for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                let frequency = libm::exp(-libm::log(MAX_PERIOD) * i as f64 / (TIMESTEP_WIDTH / 2) as f64);
                *cos = libm::cos(t * frequency) as f32;
                *sin = libm::sin(t * frequency) as f32;
            }
            self.backend.write(&self.plan.t_wave.rows_from(row, 1), bytemuck::cast_slice(&wave))?;
        }
        Ok(())
    }

    /// Writes what the next evaluation reads: its rows of the modulation table and the solver's numbers.
    fn select(&mut self, e: &Evaluation, time: usize, job: &Job<'_>, labels: &Labels) -> Result<(), B::Error> {
        let row = |label: u32| time as u32 * labels.len() as u32 + position(labels, label);
        let null = self.model.config.null_label() as u32;
        let branches =
            job.labels.iter().copied().chain(job.labels.iter().filter(|_| e.guidance.is_some()).map(|_| null));
        self.write_rows(branches.map(row))?;
        self.backend.write(&self.plan.step, bytemuck::bytes_of(&e.values()))
    }

    fn write_rows(&mut self, rows: impl Iterator<Item = u32>) -> Result<(), B::Error> {
        let rows: Vec<u32, { 2 * MAX_BATCH }> = rows.collect();
        self.backend.write(&self.plan.modulation_rows.cols_from(0, rows.len()), bytemuck::cast_slice(&rows))
    }

    fn evaluate(&mut self, images: usize, guided: bool) -> Result<(), RunError<B::Error>> {
        let (model, plan) = (self.model, self.plan.of_images(images));
        run(&mut self.backend, Program::Evaluate { images, guided }, |k| {
            let branches = if guided { 2 * images } else { images };
            jit::forward(k, model, &plan, branches)?;
            let x_hat = plan.x_hat.rows_from(0, branches);
            k.solver_step(&SolverStep {
                x: plan.x,
                x_eval: plan.x_eval,
                x_hat,
                velocity: plan.velocity,
                step: plan.step,
            })
        })?;
        Ok(())
    }

    /// Rotation angles: the first half of a head's pairs turns with the patch's row, the second with its column.
    fn write_rope(&mut self) -> Result<(), B::Error> {
        let c = &self.model.config;
        let (grid, head_dim) = (c.grid(), c.head_dim());
        for token in 0..c.image_tokens() {
            let mut waves = [0f32; crate::ops::MAX_HEAD_DIM];
            let half = head_dim / 2;
            for (pair, wave) in waves[..head_dim].chunks_exact_mut(2).enumerate() {
                let place = if 2 * pair < half { token / grid } else { token % grid };
                let exponent = (2 * pair % half) as f64 / half as f64;
                let angle = place as f64 / libm::pow(10_000.0, exponent);
                wave.copy_from_slice(&[libm::cos(angle) as f32, libm::sin(angle) as f32]);
            }
            self.backend.write(&self.plan.rope.rows_from(token, 1), bytemuck::cast_slice(&waves[..head_dim]))?;
        }
        Ok(())
    }
}

fn insert(labels: &mut Labels, label: u32) {
    if !labels.contains(&label) {
        // There is room for every image's label and the null class.
        let _ = labels.push(label);
    }
}

fn position(labels: &Labels, label: u32) -> u32 {
    labels.iter().position(|&l| l == label).unwrap_or(0) as u32
}
