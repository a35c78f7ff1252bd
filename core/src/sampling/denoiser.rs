//! Drives a network through a sampler on a backend: noise in, images out.

use core::ops::ControlFlow;

use heapless::Vec;

use crate::backend::{Backend, OpError, Program, run};
use crate::models::network::{Branches, ConditionError, Network, Plan};
use crate::models::plan::{MAX_BATCH, TIMESTEP_WIDTH};
use crate::ops::SolverStep;
use crate::sampling::noise::Rng;
use crate::sampling::sampler::{Evaluation, Settings, SettingsError};

/// The program of one evaluation of the network and the solver's step.
pub const EVALUATE: &str = "evaluate";

/// A job: what to draw. `C` is the network's condition type, [`Network::Condition`].
#[derive(Clone, Copy, Debug)]
pub struct Job<'a, C> {
    /// Solver, steps, guidance.
    pub settings: &'a Settings,
    /// The condition, for at most the plan's batch of images.
    pub condition: C,
    /// One noise seed per image.
    pub seeds: &'a [u64],
    /// The noise generator.
    pub rng: Rng,
}

/// Maximum number of evaluations that a device may lag behind the observer, and so that still run after a stop.
const AHEAD: usize = 4;

/// The progress of a job, passed to the observer after every evaluation of the network. The device may still be running
/// the last few evaluations, unless the observer looked at x̂.
pub struct Progress<'a> {
    /// Index of the job's first image; not 0 if a request has several jobs.
    pub image: usize,
    /// Total number of images.
    pub images: usize,
    /// Number of evaluations done.
    pub evaluation: usize,
    /// Total number of evaluations.
    pub evaluations: usize,
    /// Number of solver steps done.
    pub step: usize,
    /// Total number of solver steps.
    pub steps: usize,
    /// Time of the evaluation, 0 (noise) to 1 (image).
    pub t: f64,
    x_hat: XHat<'a>,
}

/// The host's buffer for x̂, and the function that reads it from the device.
struct XHat<'a> {
    values: &'a mut [f32],
    is_read: bool,
    read: &'a mut dyn FnMut(&mut [f32]) -> ControlFlow<()>,
}

impl Progress<'_> {
    /// Returns the guided prediction of the clean images, `(images of the job, C, H, W)`. Waits for the device and
    /// reads them, once per evaluation; a job that never looks waits only once every few evaluations. Returns `Break`
    /// if the device failed, which then is the job's error whatever the observer returns.
    pub fn x_hat(&mut self) -> ControlFlow<(), &[f32]> {
        if !self.x_hat.is_read {
            (self.x_hat.read)(self.x_hat.values)?;
            self.x_hat.is_read = true;
        }
        ControlFlow::Continue(self.x_hat.values)
    }
}

impl core::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Progress(evaluation {} of {})", self.evaluation, self.evaluations)
    }
}

/// Errors of a job. `E` is the backend's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The sampler settings are invalid.
    Settings(SettingsError),
    /// The condition has no images or more than the plan, or the number of seeds differs.
    Batch {
        /// Number of images of the condition.
        images: usize,
        /// Given number of seeds.
        seeds: usize,
        /// Maximum number of images of the plan.
        room: usize,
    },
    /// The condition is invalid for the network.
    Condition(ConditionError),
    /// The plan needs a larger arena than the backend has.
    Arena {
        /// Size of the backend's arena in bytes.
        len: usize,
        /// Required bytes.
        needed: usize,
    },
    /// The plan was made for activation types that the backend does not support.
    Precision,
    /// The output slice does not have the length of the images.
    Output {
        /// Given number of values.
        len: usize,
        /// Required number of values.
        needed: usize,
    },
    /// The observer asked to stop.
    Cancelled,
    /// The result contains an infinity or NaN: the weights are damaged or overflow their type.
    NotFinite,
    /// A kernel failed.
    Op(OpError<E>),
}

impl<E> RunError<E> {
    /// Converts the device's error, for code that supports several backends.
    pub fn map_device<F>(self, wrap: impl FnOnce(E) -> F) -> RunError<F> {
        match self {
            RunError::Settings(e) => RunError::Settings(e),
            RunError::Batch { images, seeds, room } => RunError::Batch { images, seeds, room },
            RunError::Condition(e) => RunError::Condition(e),
            RunError::Arena { len, needed } => RunError::Arena { len, needed },
            RunError::Precision => RunError::Precision,
            RunError::Output { len, needed } => RunError::Output { len, needed },
            RunError::Cancelled => RunError::Cancelled,
            RunError::NotFinite => RunError::NotFinite,
            RunError::Op(e) => RunError::Op(e.map_device(wrap)),
        }
    }
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
            RunError::Batch { images, seeds, room } => {
                write!(f, "{images} images and {seeds} seeds: there must be as many of both, 1 to {room}")
            }
            RunError::Condition(e) => e.fmt(f),
            RunError::Arena { len, needed } => {
                write!(f, "the backend has {len} bytes for activations, the plan needs {needed}")
            }
            RunError::Precision => f.write_str("the plan was made for activation types that the backend does not run"),
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
pub struct Denoiser<'m, B, N: Network> {
    network: &'m N,
    plan: N::Plan,
    backend: B,
}

impl<'m, B: Backend, N: Network> Denoiser<'m, B, N> {
    /// Takes a backend whose regions hold the model file and [`Plan::arena_bytes`].
    ///
    /// # Errors
    /// [`RunError::Arena`] or [`RunError::Precision`] if the plan does not fit this backend, or an error of the
    /// backend.
    pub fn new(network: &'m N, plan: N::Plan, mut backend: B) -> Result<Self, RunError<B::Error>> {
        let (len, needed) = (backend.bounds().arena, plan.arena_bytes());
        if len < needed {
            return Err(RunError::Arena { len, needed });
        }
        if !backend.precision().runs(&plan.precision()) {
            return Err(RunError::Precision);
        }
        network.write_constants(&plan, &mut backend)?;
        Ok(Denoiser { network, plan, backend })
    }

    /// The plan.
    pub fn plan(&self) -> &N::Plan {
        &self.plan
    }

    /// The backend.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Draws `job.seeds.len()` images into `images`, `(images, C, H, W)` in [-1, 1] before clipping.
    ///
    /// `images` is the host's only buffer: it holds the noise, then the predictions that `observe` looks at. `observe`
    /// is called after every evaluation and can stop the job.
    ///
    /// # Errors
    /// [`RunError`]; the contents of `images` are then unspecified.
    pub fn generate(
        &mut self,
        job: &Job<'_, N::Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), RunError<B::Error>> {
        self.draw(job, images, observe)?;
        let x = self.plan.trajectory().x.rows_from(0, job.seeds.len());
        self.backend.read(&x, bytemuck::cast_slice_mut(images))?;
        if images.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(RunError::NotFinite) }
    }

    /// The same, but leaves the images on the device, in the first rows of the plan's `x`. They may not be finite, and the
    /// device may still be at work; the contents of `images` are unspecified.
    ///
    /// # Errors
    /// As [`Denoiser::generate`].
    pub fn draw(
        &mut self,
        job: &Job<'_, N::Condition<'_>>,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), RunError<B::Error>> {
        let settings = job.settings;
        settings.check().map_err(RunError::Settings)?;
        let count = self.check_batch(job.condition, job.seeds.len())?;
        self.check_output(images.len(), count)?;
        let evaluations = settings.evaluations();
        let guided = (0..evaluations).any(|i| settings.evaluation(i).guidance.is_some());
        let branches = if guided { Branches::Both } else { Branches::Conditional };
        self.network.check(job.condition, branches).map_err(RunError::Condition)?;
        let session = self.network.begin(&self.plan, &mut self.backend, job.condition, branches)?;
        self.start_from_noise(job.rng, job.seeds, settings.noise_scale, images)?;

        let (mut chunk, mut last, mut ahead) = (0..0, None, 0);
        for i in 0..evaluations {
            let e = settings.evaluation(i);
            if !chunk.contains(&e.time_index) {
                chunk = e.time_index..(e.time_index + self.plan.modulation().chunk_times).min(settings.steps as usize);
                self.modulate(chunk.clone().map(|i| settings.time(i)), N::variants(&session))?;
            }
            let guided = e.guidance.is_some();
            self.select(&e, e.time_index - chunk.start, count, &session)?;
            if last.replace((e.t, guided)) != Some((e.t, guided)) {
                self.network.at_time(&self.plan, &mut self.backend, guided)?;
            }
            self.evaluate(count, guided)?;
            let looked = self.show(settings, i, images, observe)?;
            ahead = if looked { 0 } else { ahead + 1 };
            if ahead == AHEAD {
                self.wait()?;
                ahead = 0;
            }
        }
        Ok(())
    }

    /// Prepares single evaluations of the network, without sampling, at one time and under one condition. Here the
    /// condition may include the null class.
    ///
    /// # Errors
    /// [`RunError`] for an invalid condition, or an error of the backend.
    pub fn prepare(
        &mut self,
        t: f64,
        condition: N::Condition<'_>,
    ) -> Result<Prepared<'_, 'm, B, N>, RunError<B::Error>> {
        let count = self.check_batch(condition, N::images(condition))?;
        self.network.check(condition, Branches::Either).map_err(RunError::Condition)?;
        let session = self.network.begin(&self.plan, &mut self.backend, condition, Branches::Either)?;
        self.modulate(core::iter::once(t), N::variants(&session))?;
        self.write_rows((0..count).map(|i| N::variant(&session, i) as u32))?;
        self.network.at_time(&self.plan, &mut self.backend, false)?;
        Ok(Prepared { denoiser: self, images: count })
    }

    /// Shows an evaluation to the observer. Returns whether it looked at x̂, and so waited for the device.
    fn show(
        &mut self,
        settings: &Settings,
        i: usize,
        images: &mut [f32],
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<bool, RunError<B::Error>> {
        let e = settings.evaluation(i);
        let count = images.len() / self.network.pixels();
        let from = self.plan.trajectory().x_hat.rows_from(0, count);
        let (backend, mut failure) = (&mut self.backend, None);
        let mut read = |values: &mut [f32]| match backend.read(&from, bytemuck::cast_slice_mut(values)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failure = Some(e);
                ControlFlow::Break(())
            }
        };
        let mut progress = Progress {
            image: 0,
            images: count,
            evaluation: i + 1,
            evaluations: settings.evaluations(),
            step: e.step + usize::from(e.last_of_step),
            steps: settings.steps as usize,
            t: e.t,
            x_hat: XHat { values: images, is_read: false, read: &mut read },
        };
        let seen = observe(&mut progress);
        let looked = progress.x_hat.is_read;
        match (failure, seen) {
            (Some(e), _) => Err(RunError::Op(e)),
            (None, ControlFlow::Break(())) => Err(RunError::Cancelled),
            (None, ControlFlow::Continue(())) => Ok(looked),
        }
    }

    /// Waits for the device by reading from it.
    fn wait(&mut self) -> Result<(), OpError<B::Error>> {
        self.backend.read(&self.plan.trajectory().step.cols_from(0, 1), &mut [0; 4])
    }

    /// Checks that the condition's images fit the plan and that each has a seed; returns their number.
    fn check_batch(&self, condition: N::Condition<'_>, seeds: usize) -> Result<usize, RunError<B::Error>> {
        let (images, room) = (N::images(condition), self.plan.trajectory().batch);
        if (1..=room).contains(&images) && seeds == images {
            Ok(images)
        } else {
            Err(RunError::Batch { images, seeds, room })
        }
    }

    fn check_output(&self, len: usize, images: usize) -> Result<(), RunError<B::Error>> {
        let needed = images * self.network.pixels();
        if len == needed { Ok(()) } else { Err(RunError::Output { len, needed }) }
    }

    fn start_from_noise(
        &mut self,
        rng: Rng,
        seeds: &[u64],
        noise_scale: f64,
        images: &mut [f32],
    ) -> Result<(), RunError<B::Error>> {
        for (image, &seed) in images.chunks_mut(self.network.pixels()).zip(seeds) {
            rng.fill(seed, image);
            image.iter_mut().for_each(|x| *x *= noise_scale as f32);
        }
        self.start(images)?;
        Ok(())
    }

    /// Writes the starting state.
    fn start(&mut self, x: &[f32]) -> Result<(), OpError<B::Error>> {
        let trajectory = self.plan.trajectory().of_images(x.len() / self.network.pixels());
        self.backend.write(&trajectory.x, bytemuck::cast_slice(x))?;
        self.backend.write(&trajectory.x_eval, bytemuck::cast_slice(x))
    }

    /// Computes the modulation table for some time points.
    fn modulate(
        &mut self,
        times: impl ExactSizeIterator<Item = f64>,
        variants: usize,
    ) -> Result<(), RunError<B::Error>> {
        let count = times.len();
        self.waves(times)?;
        let (network, plan) = (self.network, &self.plan);
        run(&mut self.backend, Program::once("modulate", [count, variants]), |k| {
            network.modulate(k, plan, count, variants)
        })?;
        Ok(())
    }

    /// Sinusoids of the time points: 128 cosines, then 128 sines.
    #[inline(never)] // its row is not to lie on the stack while kernels run
    fn waves(&mut self, times: impl Iterator<Item = f64>) -> Result<(), OpError<B::Error>> {
        for (row, t) in times.enumerate() {
            let mut wave = [0f32; TIMESTEP_WIDTH];
            let (cos, sin) = wave.split_at_mut(TIMESTEP_WIDTH / 2);
            for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                let frequency = libm::exp(-libm::log(N::MAX_PERIOD) * i as f64 / (TIMESTEP_WIDTH / 2) as f64);
                *cos = libm::cos(t * frequency) as f32;
                *sin = libm::sin(t * frequency) as f32;
            }
            let to = self.plan.modulation().t_wave.rows_from(row, 1);
            self.backend.write(&to, bytemuck::cast_slice(&wave))?;
        }
        Ok(())
    }

    /// Writes the inputs of the next evaluation: its rows of the modulation table and the solver's numbers.
    fn select(
        &mut self,
        e: &Evaluation,
        time: usize,
        count: usize,
        session: &N::Session,
    ) -> Result<(), OpError<B::Error>> {
        let images = if e.guidance.is_some() { 2 * count } else { count };
        let first = time * N::variants(session);
        self.write_rows((0..images).map(|i| (first + N::variant(session, i)) as u32))?;
        self.backend.write(&self.plan.trajectory().step, bytemuck::bytes_of(&e.values()))
    }

    fn write_rows(&mut self, rows: impl Iterator<Item = u32>) -> Result<(), OpError<B::Error>> {
        let rows: Vec<u32, { 2 * MAX_BATCH }> = rows.collect();
        self.backend.write(&self.plan.modulation().rows.cols_from(0, rows.len()), bytemuck::cast_slice(&rows))
    }

    fn evaluate(&mut self, images: usize, guided: bool) -> Result<(), RunError<B::Error>> {
        let (network, plan) = (self.network, self.plan.of_images(images));
        let branches = if guided { 2 * images } else { images };
        run(&mut self.backend, Program::replayed(EVALUATE, [images, branches]), |k| {
            network.forward(k, &plan, branches)?;
            let t = plan.trajectory();
            let x_hat = t.x_hat.rows_from(0, branches);
            k.solver_step(&SolverStep { x: t.x, x_eval: t.x_eval, x_hat, velocity: t.velocity, step: t.step })
        })?;
        Ok(())
    }
}

/// A denoiser prepared for single evaluations of the network, at one time and under one condition.
#[derive(Debug)]
pub struct Prepared<'d, 'm, B, N: Network> {
    denoiser: &'d mut Denoiser<'m, B, N>,
    images: usize,
}

impl<B: Backend, N: Network> Prepared<'_, '_, B, N> {
    /// Evaluates the network once for the condition's images, from `x` to `x_hat`, both `(images, C, H, W)`.
    ///
    /// # Errors
    /// [`RunError::Output`] if either has the wrong length, or an error of the backend.
    pub fn predict(&mut self, x: &[f32], x_hat: &mut [f32]) -> Result<(), RunError<B::Error>> {
        let (denoiser, images) = (&mut *self.denoiser, self.images);
        denoiser.check_output(x.len(), images)?;
        denoiser.check_output(x_hat.len(), images)?;
        denoiser.start(x)?;
        let (network, plan) = (denoiser.network, denoiser.plan.of_images(images));
        run(&mut denoiser.backend, Program::replayed("predict", [images, 1]), |k| network.forward(k, &plan, images))?;
        let out = plan.trajectory().x_hat.rows_from(0, images);
        denoiser.backend.read(&out, bytemuck::cast_slice_mut(x_hat))?;
        Ok(())
    }
}
