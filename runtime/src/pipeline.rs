use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use denoir_core::backend::Backend;
use denoir_core::cpu::{Cpu, TapFn};
use denoir_core::jit::JitPlan;
use denoir_core::network::Plan;
use denoir_core::plan::Precision;
use denoir_core::t2i::{T2iPlan, Texts};
use denoir_core::{DType, Denoiser, Job, RunError, View};

use crate::packed::Packed;
use crate::system;
use crate::{AlignedBytes, Condition, Engine, Error, Image, Isa, Model, Network, Pool, Rng, Settings};

/// What runs the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// The fastest that this build and machine have.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// Vulkan compute.
    Vulkan,
    /// NVIDIA CUDA.
    Cuda,
}

/// Something that can run the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `cpu`, `vulkan` or `cuda`.
    pub backend: &'static str,
    /// Its number for [`Options::device`].
    pub index: usize,
    /// What it is called.
    pub name: String,
    /// Instruction sets or feature tiers, the fastest last.
    pub levels: Vec<&'static str>,
    /// Processor threads; 0 where it is no processor.
    pub threads: usize,
    /// Memory in bytes, where the system tells.
    pub memory_bytes: Option<u64>,
}

/// How long a kernel of a device took.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel and its variant.
    pub name: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// All of them together, by the device's own clock.
    pub ms: f64,
}

/// The devices that this build can use on this machine.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![cpu()];
    #[cfg(feature = "vulkan")]
    devices.extend(crate::vulkan::devices());
    #[cfg(feature = "cuda")]
    devices.extend(crate::cuda::devices());
    devices
}

fn cpu() -> Device {
    Device {
        backend: "cpu",
        index: 0,
        name: system::cpu_name(),
        levels: Isa::available().map(Isa::name).collect(),
        threads: available_threads(),
        memory_bytes: system::memory_bytes(),
    }
}

pub(crate) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Where and how a pipeline runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What runs the network.
    pub backend: BackendKind,
    /// Which device of that backend; the first by default.
    pub device: Option<usize>,
    /// Processor threads; as many as the machine has by default.
    pub threads: Option<usize>,
    /// Instruction set; the fastest by default.
    pub isa: Option<Isa>,
    /// Images that are drawn together at most, 1 by default. More need more memory and give the same images.
    pub batch: Option<usize>,
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct Request {
    /// A class for each image; nothing where the model draws from a prompt.
    pub labels: Vec<u32>,
    /// What the images show where the model draws from a prompt.
    pub texts: Option<PromptEmbeds>,
    /// The first image's noise seed; the others follow, one up each.
    pub seed: u64,
    /// What noise a seed gives.
    pub rng: Rng,
    /// Solver, steps, guidance.
    pub settings: Settings,
}

/// A prompt and a negative prompt as embeddings, and how many images to draw from them.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptEmbeds {
    /// `(text tokens, text width)` of [`Network::text_size`].
    pub prompt: Vec<f32>,
    /// `(text tokens, text width)`: what guidance leads away from.
    pub negative: Vec<f32>,
    /// Number of images.
    pub images: usize,
}

impl Request {
    /// One image of class 0, or of no text yet, with seed 42 and the model's own settings.
    pub fn preset(model: &Model) -> Request {
        let labels = if model.network().text_size().is_some() { vec![] } else { vec![0] };
        Request { labels, texts: None, seed: 42, rng: Rng::Torch, settings: *model.preset() }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.texts.as_ref().map_or(self.labels.len(), |texts| texts.images)
    }

    /// What images `first..first + count` are conditioned on.
    fn condition(&self, first: usize, count: usize) -> Condition<'_> {
        match &self.texts {
            None => Condition::Labels(self.labels.get(first..first + count).unwrap_or(&[])),
            Some(PromptEmbeds { prompt, negative, .. }) => Condition::Texts(Texts { prompt, negative, images: count }),
        }
    }
}

/// How far a request is; passed to the observer after every evaluation of the network.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Number of the first image of the batch under way.
    pub image: usize,
    /// Images in the request.
    pub images: usize,
    /// Evaluations of this batch done.
    pub evaluation: usize,
    /// Evaluations of this batch in all.
    pub evaluations: usize,
    /// Solver steps of this batch done.
    pub step: usize,
    /// Solver steps of this batch in all.
    pub steps: usize,
    /// `(images of the batch, C, H, W)`: the predicted clean images.
    pub x_hat: &'a [f32],
}

/// A model with the memory and the device to run it.
#[derive(Debug)]
pub struct Pipeline {
    model: Arc<Model>,
    batch: usize,
    precision: Precision,
    chunk_times: usize,
    place: Place,
    device: Device,
    warnings: Vec<String>,
}

/// What runs the network.
#[derive(Debug)]
enum Place {
    Cpu {
        arena: AlignedBytes,
        packed: Packed,
        pool: Pool,
        isa: Isa,
    },
    #[cfg(feature = "vulkan")]
    Vulkan(Box<denoir_vulkan::Vulkan>),
    #[cfg(feature = "cuda")]
    Cuda(Box<denoir_cuda::Cuda>),
}

impl Pipeline {
    /// Plans and reserves everything that drawing needs, but a device's room for the weights: the first request says how
    /// much that is.
    ///
    /// # Errors
    /// [`Error`] for a backend or device that there is not, or memory or threads that cannot be had.
    pub fn new(model: Arc<Model>, options: &Options) -> Result<Pipeline, Error> {
        match options.backend {
            BackendKind::Cpu => Pipeline::on_cpu(model, options),
            #[cfg(feature = "cuda")]
            BackendKind::Cuda => Pipeline::on_cuda(model, options),
            #[cfg(not(feature = "cuda"))]
            BackendKind::Cuda => Err(Error::Backend("this build has no CUDA backend".into())),
            #[cfg(feature = "vulkan")]
            BackendKind::Vulkan => Pipeline::on_vulkan(model, options),
            #[cfg(not(feature = "vulkan"))]
            BackendKind::Vulkan => Err(Error::Backend("this build has no Vulkan backend".into())),
            // What only means something on the processor chooses it.
            BackendKind::Auto if options.threads.is_some() || options.isa.is_some() => Pipeline::on_cpu(model, options),
            #[cfg(feature = "cuda")]
            BackendKind::Auto if crate::cuda::has_card() => Pipeline::on_cuda(model, options),
            #[cfg(feature = "vulkan")]
            BackendKind::Auto if crate::vulkan::has_card() => Pipeline::on_vulkan(model, options),
            BackendKind::Auto => Pipeline::on_cpu(model, options),
        }
    }

    fn on_cpu(model: Arc<Model>, options: &Options) -> Result<Pipeline, Error> {
        if let Some(device @ 1..) = options.device {
            return Err(Error::Backend(format!("there is no CPU device {device}, only 0")));
        }
        // Before the threads start: some instruction sets are asked of the system, for threads yet to come.
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let (batch, precision) = (options.batch.unwrap_or(1), isa.precision());
        let (arena_bytes, chunk_times) = sizes(&model, batch, precision)?;
        let arena = AlignedBytes::zeroed(arena_bytes)?;
        let pool = Pool::new(options.threads.unwrap_or_else(available_threads)).map_err(Error::Threads)?;
        let packed = Packed::new(&model, isa, &pool)?;
        let place = Place::Cpu { arena, packed, pool, isa };
        Ok(Pipeline { model, batch, precision, chunk_times, place, device: cpu(), warnings: Vec::new() })
    }

    #[cfg(feature = "vulkan")]
    fn on_vulkan(model: Arc<Model>, options: &Options) -> Result<Pipeline, Error> {
        let crate::vulkan::Opened { gpu, device, warnings } = crate::vulkan::open(options)?;
        let (batch, precision) = (options.batch.unwrap_or(1), gpu.precision());
        let (arena_bytes, chunk_times) = sizes(&model, batch, precision)?;
        let place = Place::Vulkan(Box::new(gpu.engine(model.clone(), arena_bytes)?));
        Ok(Pipeline { model, batch, precision, chunk_times, place, device, warnings })
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(model: Arc<Model>, options: &Options) -> Result<Pipeline, Error> {
        let crate::cuda::Opened { gpu, device, warnings } = crate::cuda::open(options)?;
        let (batch, precision) = (options.batch.unwrap_or(1), gpu.precision());
        let (arena_bytes, chunk_times) = sizes(&model, batch, precision)?;
        let place = Place::Cuda(Box::new(gpu.engine(model.clone(), arena_bytes)?));
        Ok(Pipeline { model, batch, precision, chunk_times, place, device, warnings })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The device in use.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// What the user should know about the device, a line each: parts of it that compute wrongly and are not used, or that
    /// nothing checked.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The processor's instruction set in use; the lowest where a device computes.
    pub fn isa(&self) -> Isa {
        match &self.place {
            Place::Cpu { isa, .. } => *isa,
            #[cfg(feature = "vulkan")]
            Place::Vulkan(_) => Isa::SCALAR,
            #[cfg(feature = "cuda")]
            Place::Cuda(_) => Isa::SCALAR,
        }
    }

    /// Processor threads in use.
    pub fn threads(&self) -> usize {
        match &self.place {
            Place::Cpu { pool, .. } => denoir_core::Executor::threads(pool),
            #[cfg(feature = "vulkan")]
            Place::Vulkan(_) => 1,
            #[cfg(feature = "cuda")]
            Place::Cuda(_) => 1,
        }
    }

    /// Gigaflop per second that the multipliers of all threads in use can do on weights of this type, measured for a
    /// fifth of a second. `None` where a device computes, and for instruction sets without such a measurement.
    pub fn peak_gflops(&self, weights: DType) -> Option<f64> {
        let (pool, isa) = match &self.place {
            Place::Cpu { pool, isa, .. } => (pool, *isa),
            #[cfg(feature = "vulkan")]
            Place::Vulkan(_) => return None,
            #[cfg(feature = "cuda")]
            Place::Cuda(_) => return None,
        };
        let threads = self.threads();
        let flop = isa.spin(weights)? * threads as f64;
        let once = || {
            let start = Instant::now();
            denoir_core::Executor::run(pool, threads, &|_| {
                isa.spin(weights);
            });
            flop / start.elapsed().as_secs_f64() / 1e9
        };
        Some((0..5).map(|_| once()).fold(0.0, f64::max))
    }

    /// Bytes of activations.
    pub fn arena_bytes(&self) -> usize {
        match &self.place {
            Place::Cpu { arena, .. } => arena.as_slice().len(),
            #[cfg(feature = "vulkan")]
            Place::Vulkan(engine) => engine.bounds().arena,
            #[cfg(feature = "cuda")]
            Place::Cuda(engine) => engine.bounds().arena,
        }
    }

    /// Bytes of a device's memory in use now, activations among them; on one that shares the processor's, they are the
    /// program's too. `None` on the processor.
    pub fn device_bytes(&self) -> Option<u64> {
        match &self.place {
            #[cfg(feature = "vulkan")]
            Place::Vulkan(engine) => Some(engine.allocated_bytes()),
            Place::Cpu { .. } => None,
            #[cfg(feature = "cuda")]
            Place::Cuda(engine) => Some(engine.allocated_bytes()),
        }
    }

    /// Solver steps whose modulation vectors are made at once.
    pub fn chunk_times(&self) -> usize {
        self.chunk_times
    }

    /// Runs `f` while a device times its kernels, which then do not overlap, and gives the times of the last program,
    /// the longest first. Nothing on the processor.
    ///
    /// # Errors
    /// [`Error`] of `f` or of the device.
    pub fn with_kernel_times(
        &mut self,
        f: impl FnOnce(&mut Pipeline) -> Result<(), Error>,
    ) -> Result<Vec<KernelTime>, Error> {
        self.set_timed(true)?;
        let times = f(self).and_then(|()| self.kernel_times());
        self.set_timed(false)?;
        times
    }

    fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        match (&mut self.place, timed) {
            #[cfg(feature = "vulkan")]
            (Place::Vulkan(engine), timed) => Ok(engine.set_timed(timed)?),
            #[cfg(feature = "cuda")]
            (Place::Cuda(engine), timed) => Ok(engine.set_timed(timed)?),
            // It has no timers.
            (Place::Cpu { .. }, _) => Ok(()),
        }
    }

    fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        match &self.place {
            #[cfg(feature = "vulkan")]
            Place::Vulkan(engine) => {
                let times = engine.kernel_times()?.into_iter();
                Ok(times.map(|time| KernelTime { name: time.name, runs: time.runs, ms: time.ms }).collect())
            }
            #[cfg(feature = "cuda")]
            Place::Cuda(engine) => {
                let times = engine.kernel_times()?.into_iter();
                Ok(times.map(|time| KernelTime { name: time.name, runs: time.runs, ms: time.ms }).collect())
            }
            Place::Cpu { .. } => Ok(Vec::new()),
        }
    }

    /// Milliseconds of each evaluation since the last call, by the device's own clock: from its first kernel to its last,
    /// without what the host does between evaluations. Starts with the first call. Only CUDA has them.
    ///
    /// # Errors
    /// What the device reports.
    pub fn take_device_times(&mut self) -> Result<Vec<f64>, Error> {
        match &mut self.place {
            #[cfg(feature = "cuda")]
            Place::Cuda(engine) => Ok(engine.take_spans()?),
            _ => Ok(Vec::new()),
        }
    }

    /// Gives the engine on this pipeline's memory and device to `f`, for what the other methods do not cover.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn with_denoiser<T>(&mut self, f: impl FnOnce(&mut dyn Engine) -> Result<T, Error>) -> Result<T, Error> {
        self.run(None, f)
    }

    /// As [`Pipeline::with_denoiser`], and shows every intermediate tensor to `tap`.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn with_tap<'t, T>(
        &'t mut self,
        tap: &'t mut TapFn<'t>,
        f: impl FnOnce(&mut dyn Engine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run(Some(tap), f)
    }

    fn run<'t, T>(
        &'t mut self,
        tap: Option<&'t mut TapFn<'t>>,
        f: impl FnOnce(&mut dyn Engine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let misaligned = |_| Error::Model(None, denoir_core::ModelError::MisalignedFile);
        match &mut self.place {
            Place::Cpu { arena, packed, pool, isa } => {
                let cpu = Cpu::new(self.model.bytes(), arena.as_mut_slice(), &*pool, *isa).map_err(misaligned)?;
                // A quarter to a third of a network, read once for many steps: given back matrix by matrix, it is never in
                // memory as a whole.
                let modulation = self.model.network().modulation_matrices();
                let mut read = |matrix: &View| {
                    if modulation.iter().any(|weight| weight.data == *matrix) {
                        self.model.release(matrix);
                    }
                };
                let cpu = cpu.with_packed(packed.bytes()).with_read(&mut read);
                let cpu = match tap {
                    Some(tap) => cpu.with_tap(tap),
                    None => cpu,
                };
                with_backend(&self.model, self.batch, self.precision, cpu, f)
            }
            #[cfg(feature = "vulkan")]
            Place::Vulkan(engine) => match tap {
                Some(tap) => with_backend(&self.model, self.batch, self.precision, engine.tapped(tap), f),
                None => with_backend(&self.model, self.batch, self.precision, &mut **engine, f),
            },
            #[cfg(feature = "cuda")]
            Place::Cuda(engine) => match tap {
                Some(tap) => with_backend(&self.model, self.batch, self.precision, engine.tapped(tap), f),
                None => with_backend(&self.model, self.batch, self.precision, &mut **engine, f),
            },
        }
    }

    /// Draws the images of a request. `observe` is called after every evaluation of the network and can stop it.
    ///
    /// # Errors
    /// [`Error::Run`] for settings or classes that there are not, a stop, or an image that is not finite.
    pub fn generate(
        &mut self,
        request: &Request,
        observe: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Image>, Error> {
        let model = Arc::clone(&self.model);
        let network = model.network();
        if network.text_size().is_some() && request.texts.is_none() {
            return Err(Error::Condition("this model draws from a prompt, and there is none"));
        }
        let (batch, pixels, total) = (self.batch, network.pixels(), request.images());
        let (channels, side) = (network.channels(), network.input_size());
        let mut images = Vec::new();
        self.with_denoiser(|denoiser| {
            // An empty request goes through as well: the engine has the error for it.
            for first in (0..total.max(1)).step_by(batch) {
                let count = batch.min(total - first);
                let seeds: Vec<u64> = (first..first + count).map(|i| request.seed.wrapping_add(i as u64)).collect();
                let condition = request.condition(first, count);
                let job = Job { settings: &request.settings, condition, seeds: &seeds, rng: request.rng };
                let mut samples = zeros(count * pixels)?;
                denoiser.generate(&job, &mut samples, &mut |p| {
                    observe(&Progress {
                        image: first,
                        images: total,
                        evaluation: p.evaluation,
                        evaluations: p.evaluations,
                        step: p.step,
                        steps: p.steps,
                        x_hat: p.x_hat,
                    })
                })?;
                let image = |sample: &[f32]| Image { channels, width: side, height: side, sample: sample.to_vec() };
                images.extend(samples.chunks_exact(pixels).map(image));
            }
            Ok(images)
        })
    }
}

fn zeros(len: usize) -> Result<Vec<f32>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| Error::Memory(len.saturating_mul(size_of::<f32>())))?;
    values.resize(len, 0.0);
    Ok(values)
}

/// Bytes of the arena, and time points of a chunk.
fn sizes(model: &Model, batch: usize, precision: Precision) -> Result<(usize, usize), Error> {
    match model.network() {
        Network::Jit(m) => Ok(sizes_of(&JitPlan::new(m, batch, precision)?)),
        Network::T2i(m) => Ok(sizes_of(&T2iPlan::new(m, batch, precision)?)),
    }
}

fn sizes_of(plan: &impl Plan) -> (usize, usize) {
    (plan.arena_bytes(), plan.modulation().chunk_times)
}

/// Gives a model on a backend to `f`.
fn with_backend<B: Backend, T>(
    model: &Model,
    batch: usize,
    precision: Precision,
    backend: B,
    f: impl FnOnce(&mut dyn Engine) -> Result<T, Error>,
) -> Result<T, Error>
where
    Error: From<RunError<B::Error>>,
{
    match model.network() {
        Network::Jit(m) => {
            let plan = JitPlan::new(m, batch, precision)?;
            f(&mut Denoiser::new(&**m, plan, backend).map_err(RunError::from)?)
        }
        Network::T2i(m) => {
            let plan = T2iPlan::new(m, batch, precision)?;
            f(&mut Denoiser::new(&**m, plan, backend).map_err(RunError::from)?)
        }
    }
}
