use std::ops::ControlFlow;
use std::sync::Arc;

use denoir_core::backend::TapFn;
use denoir_core::{DType, Job, Progress};

use crate::backends::{self, Engine, Opened};
use crate::bytes::reserved;
use crate::reserve::Watch;
use crate::{
    BackendKind, Condition, Denoise, Device, DeviceMemory, Error, Image, Isa, KernelTime, Model, Options, Request,
};

/// Takes an image, `(channels, height, width)`, and its index.
pub type TakeImage<'t> = dyn FnMut(usize, &[f32]) -> Result<(), Error> + 't;

/// A model, with the memory and the device to run it.
#[derive(Debug)]
pub struct Pipeline {
    model: Arc<Model>,
    batch: usize,
    chunk_times: usize,
    engine: Box<dyn Engine>,
    device: Device,
    warnings: Vec<String>,
    /// The process that made it: a fork has none of its threads and devices.
    process: u32,
}

impl Pipeline {
    /// Plans and reserves everything that drawing needs, except device memory for weights, whose size is known only
    /// with the first request.
    ///
    /// # Errors
    /// [`Error`] if the backend or device does not exist, or if memory or threads cannot be allocated.
    pub fn new(model: Arc<Model>, options: &Options) -> Result<Pipeline, Error> {
        let watch = Watch::start();
        let Opened { engine, device, warnings } = backends::open(&model, options)?;
        let chunk_times = model.network().chunk_times(options.batch(), engine.precision())?;
        watch.check()?;
        let process = std::process::id();
        Ok(Pipeline { model, batch: options.batch(), chunk_times, engine, device, warnings, process })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The device in use.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Warnings about the device, one line each: parts that compute wrong results and are not used, or that were not
    /// checked.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The CPU instruction set in use; `None` if the pipeline runs on another device.
    pub fn isa(&self) -> Option<Isa> {
        self.engine.isa()
    }

    /// Number of processor threads in use.
    pub fn threads(&self) -> usize {
        self.engine.threads()
    }

    /// Peak speed of all threads in use with weights of this type, in Gflop/s, measured for a fifth of a second. `None`
    /// on other devices than the processor, and for instruction sets without such a measurement.
    pub fn peak_gflops(&self, weights: DType) -> Option<f64> {
        self.engine.peak_gflops(weights)
    }

    /// Bytes of activations.
    pub fn arena_bytes(&self) -> usize {
        self.engine.arena_bytes()
    }

    /// Bytes of device memory in use now, including activations. If the device shares the processor's memory, they
    /// count as the program's too. `None` on the processor.
    pub fn device_bytes(&self) -> Option<u64> {
        self.engine.device_bytes()
    }

    /// Maximum number of images drawn together.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number of solver steps whose modulation vectors are computed together.
    pub fn chunk_times(&self) -> usize {
        self.chunk_times
    }

    /// Runs `f` while the device times its kernels, and returns the times of the last program, longest first. Kernels
    /// do not overlap meanwhile. The list is empty on the processor.
    ///
    /// # Errors
    /// [`Error`] of `f` or of the device.
    pub fn with_kernel_times(
        &mut self,
        f: impl FnOnce(&mut Pipeline) -> Result<(), Error>,
    ) -> Result<Vec<KernelTime>, Error> {
        self.engine.set_timed(true)?;
        let times = f(self).and_then(|()| self.engine.kernel_times());
        self.engine.set_timed(false)?;
        times
    }

    /// Milliseconds of each evaluation since the last call, by the device's own clock: from its first kernel to its
    /// last, without host work between evaluations. The first call starts the measurement. Only CUDA provides it.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn take_device_times(&mut self) -> Result<Vec<f64>, Error> {
        self.engine.take_device_times()
    }

    /// Calls `f` with a denoiser on this pipeline's memory and device, for uses that the other methods do not cover.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn with_denoiser<T>(&mut self, f: impl FnOnce(&mut dyn Denoise) -> Result<T, Error>) -> Result<T, Error> {
        self.run(None, f)
    }

    /// Like [`Pipeline::with_denoiser`], but also shows every intermediate tensor to `tap`.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn with_tap<T>(
        &mut self,
        tap: &mut TapFn<'_>,
        f: impl FnOnce(&mut dyn Denoise) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run(Some(tap), f)
    }

    fn run<T>(
        &mut self,
        tap: Option<&mut TapFn<'_>>,
        f: impl FnOnce(&mut dyn Denoise) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.process != std::process::id() {
            return Err(Error::Forked);
        }
        let (mut f, mut result) = (Some(f), None);
        self.engine.run(&self.model, self.batch, tap, &mut |denoiser| {
            result = f.take().map(|f| f(denoiser)).transpose()?;
            Ok(())
        })?;
        result.ok_or_else(|| Error::Backend("the engine ran nothing".into()))
    }

    /// Draws the images of a request. `observe` is called after every evaluation of the network and can stop the job.
    ///
    /// # Errors
    /// [`Error::Condition`] for a condition of the wrong kind; [`Error::Run`] for invalid settings or classes, a stop,
    /// or an image that is not finite; [`Error::Memory`] if the images do not fit.
    pub fn generate(
        &mut self,
        request: &Request<'_>,
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Image>, Error> {
        let network = self.model.network();
        let (channels, side, total) = (network.channels(), network.input_size(), request.condition.images());
        let mut images = reserved(total)?;
        self.generate_each(request, observe, &mut |_, values| {
            let mut sample = reserved(values.len())?;
            sample.extend_from_slice(values);
            images.push(Image { channels, width: side, height: side, sample });
            Ok(())
        })?;
        Ok(images)
    }

    /// Draws the images of a request, and passes each to `take` with its index, `(channels, height, width)`, as soon
    /// as its batch is done. No more than a batch is in memory.
    ///
    /// # Errors
    /// As [`Pipeline::generate`], or `take`'s.
    pub fn generate_each(
        &mut self,
        request: &Request<'_>,
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
        take: &mut TakeImage<'_>,
    ) -> Result<(), Error> {
        let pixels = self.model.network().pixels();
        let mut batches = Batches::new(self, request)?;
        self.with_denoiser(|denoiser| {
            for first in batches.firsts() {
                batches.draw(first, observe, &mut |job, samples, observe| denoiser.generate(job, samples, observe))?;
                for (i, sample) in batches.samples.chunks_exact(pixels).enumerate() {
                    take(first + i, sample)?;
                }
            }
            Ok(())
        })
    }

    /// Draws the images of a request into memory of the device, a CUDA device. They are complete when this returns, and do
    /// not pass through the processor's memory. After a failure the contents of the memory are unspecified.
    ///
    /// # Errors
    /// As [`Pipeline::generate`]; [`Error::Layout`] and [`Error::Room`] for memory that does not fit the images, and
    /// [`Error::Backend`] on other devices.
    pub fn generate_on_device(
        &mut self,
        request: &Request<'_>,
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
        memory: &DeviceMemory,
    ) -> Result<(), Error> {
        memory.images(&self.model, 0..request.condition.images())?;
        if self.device.backend != BackendKind::Cuda {
            return Err(backends::no_device_memory());
        }
        let mut batches = Batches::new(self, request)?;
        for first in batches.firsts() {
            self.with_denoiser(|denoiser| {
                batches.draw(first, observe, &mut |job, samples, observe| denoiser.draw(job, samples, observe))
            })?;
            self.engine.deliver(&self.model, self.batch, first..first + batches.seeds.len(), memory)?;
        }
        Ok(())
    }
}

/// Draws a batch, or leaves it on the device.
type Draw<'d> = dyn FnMut(
        &Job<'_, Condition<'_>>,
        &mut [f32],
        &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>
    + 'd;

/// A request in batches.
struct Batches<'r> {
    request: &'r Request<'r>,
    batch: usize,
    pixels: usize,
    process: u32,
    watch: Watch,
    /// Of the last batch.
    samples: Vec<f32>,
    seeds: Vec<u64>,
}

impl<'r> Batches<'r> {
    fn new(pipeline: &Pipeline, request: &'r Request<'r>) -> Result<Batches<'r>, Error> {
        let (batch, pixels) = (pipeline.batch, pipeline.model.network().pixels());
        let most = batch.min(request.condition.images());
        let (process, watch) = (pipeline.process, Watch::start());
        let (samples, seeds) = (reserved(most.saturating_mul(pixels))?, reserved(most)?);
        Ok(Batches { request, batch, pixels, process, watch, samples, seeds })
    }

    /// The first image of each batch. An empty request goes through as well: the denoiser has the error for it.
    fn firsts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.request.condition.images().max(1)).step_by(self.batch)
    }

    /// Whether the job can go on, whatever its observer says.
    fn can_go_on(&self) -> Result<(), Error> {
        self.watch.check()?;
        if self.process == std::process::id() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Draws the batch that begins with this image.
    fn draw(
        &mut self,
        first: usize,
        observe: &mut dyn FnMut(&mut Progress<'_>) -> ControlFlow<()>,
        draw: &mut Draw<'_>,
    ) -> Result<(), Error> {
        let (request, total) = (self.request, self.request.condition.images());
        let count = self.batch.min(total - first);
        self.seeds.clear();
        self.seeds.extend((first..first + count).map(|i| request.seed.wrapping_add(i as u64)));
        let mut samples = std::mem::take(&mut self.samples);
        samples.resize(count * self.pixels, 0.0);
        let condition = request.condition.part(first, count);
        let job = Job { settings: &request.settings, condition, seeds: &self.seeds, rng: request.rng };
        let result = draw(&job, &mut samples, &mut |progress| {
            (progress.image, progress.images) = (first, total);
            observe(progress)?;
            if self.can_go_on().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.samples = samples;
        self.can_go_on()?;
        result
    }
}
