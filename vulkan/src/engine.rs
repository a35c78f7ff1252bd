//! The backend: regions, pipelines, recorded programs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use denoir_core::backend::{Backend, ModelFile, Program};
use denoir_core::ops::*;
use denoir_core::plan::Precision;
use denoir_core::{Region, View};

use crate::calls::{Calls, Faults};
use crate::device::{Device, DeviceInfo, candidates};
use crate::instance::{Instance, Validation};
use crate::launch::Placed;
use crate::memory::{Buffer, Place};
use crate::pipelines::Pipelines;
use crate::recording::{Dispatch, Recording};
use crate::stream::Stream;
use crate::tier::Tiers;
use crate::timers::KernelTime;
use crate::weights::Weights;
use crate::{Error, Tier, disk_cache, kernels, self_test};

/// How long a submission should take, in seconds, and how long it may before its program is cut anew: below what a
/// watchdog lets pass.
const SUBMISSION_SECONDS: f64 = 0.1;
const LONGEST_SECONDS: f64 = 0.2;
/// How often an engine cuts anew: a kernel of one long workgroup stays as it is.
const CORRECTIONS: u32 = 8;

/// How an engine is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The device's number; the first by default.
    pub device: Option<usize>,
    /// The highest tier to use; by default all that the device has.
    pub tier: Option<Tier>,
    /// A folder for compiled kernels; nothing is kept without one.
    pub cache: Option<PathBuf>,
    /// Whether the validation layers watch.
    pub validation: Validation,
    /// Makes a call fail: for tests.
    pub faults: Option<Arc<Faults>>,
    /// Writes to a device that shares the processor's memory as to a card: for tests.
    pub apart: bool,
}

/// The devices of this machine.
///
/// # Errors
/// [`Error::NoLoader`] without Vulkan, or what the loader reports.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let instance = match Instance::new(Calls::default(), &Validation::Off) {
        Err(Error::NoDevice) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(candidates(&instance)?.iter().enumerate().map(|(i, c)| c.info(i)).collect())
}

/// An open device: what engines are made on.
#[derive(Clone)]
pub struct Gpu {
    device: Arc<Device>,
    info: DeviceInfo,
    tiers: Tiers,
    wrong: Vec<Tier>,
    flop_per_second: f64,
    pipelines: Arc<Mutex<Pipelines>>,
}

impl Gpu {
    /// Opens a device and checks every tier that it is to use.
    ///
    /// # Errors
    /// [`Error`], naming what this machine or device lacks.
    pub fn open(options: &Options) -> Result<Gpu, Error> {
        let calls = Calls::new(options.faults.clone());
        let instance = Instance::new(calls, &options.validation)?;
        let device = Device::open(instance, options.device, options.apart)?;
        let info = device.about.info(options.device.unwrap_or(0));
        let cache = options.cache.as_deref().map(|folder| disk_cache::path(folder, &device.about.properties));
        let mut tiers = info.tiers;
        if let Some(tier) = options.tier {
            if !tiers.has(tier) {
                return Err(Error::NoTier { device: info.name, tier });
            }
            tiers = tiers.up_to(tier);
        }
        let pipelines = Arc::new(Mutex::new(Pipelines::new(&device, cache)?));
        let mut gpu = Gpu { device, info, tiers, wrong: Vec::new(), flop_per_second: 1e9, pipelines };
        self_test::run(&mut gpu)?;
        match options.tier {
            Some(tier) if gpu.wrong.contains(&tier) => Err(Error::NoTier { device: gpu.info.name, tier }),
            _ => Ok(gpu),
        }
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The tiers in use.
    pub fn tiers(&self) -> Tiers {
        self.tiers
    }

    /// The tiers that the device claims but computes wrongly; they are not used.
    pub fn wrong_tiers(&self) -> &[Tier] {
        &self.wrong
    }

    /// Submissions to the device so far, of all engines.
    pub fn submissions(&self) -> usize {
        self.device.submissions.load(Ordering::Relaxed)
    }

    /// Bytes of memory that engines on this device hold now.
    pub fn allocated_bytes(&self) -> u64 {
        self.device.allocated.load(Ordering::Relaxed)
    }

    /// The activation types that an engine on this device wants.
    pub fn precision(&self) -> Precision {
        self.tiers.precision()
    }

    /// An engine over a model file and an arena of so many bytes.
    ///
    /// # Errors
    /// [`Error`], above all when the device is out of memory.
    pub fn engine(&self, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Vulkan, Error> {
        Vulkan::new(self, self.tiers, file, arena_bytes)
    }

    /// An engine that uses other tiers.
    pub(crate) fn engine_with(
        &self,
        tiers: Tiers,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Vulkan, Error> {
        Vulkan::new(self, tiers, file, arena_bytes)
    }

    pub(crate) fn disable(&mut self, tier: Tier) {
        self.tiers = self.tiers.without(tier);
        self.wrong.push(tier);
    }

    pub(crate) fn set_speed(&mut self, flop_per_second: f64) {
        self.flop_per_second = flop_per_second;
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("info", &self.info).field("tiers", &self.tiers).finish_non_exhaustive()
    }
}

/// A Vulkan device as a backend.
pub struct Vulkan {
    /// In the order in which they must go: first the queue, which waits for the device.
    stream: Stream,
    programs: HashMap<Program, Recording>,
    open: Option<Recording>,
    /// Those of the device: engines share them.
    pipelines: Arc<Mutex<Pipelines>>,
    weights: Weights,
    arena: Buffer,
    /// For bindings that a variant does not touch.
    pub(crate) nothing: Buffer,
    tiers: Tiers,
    /// Work of a submission, and seconds that it may take, at most.
    most_flop: u64,
    longest: f64,
    corrections: u32,
    /// Whether programs are recorded with timers.
    timed: bool,
    /// What was submitted last.
    last: Option<Program>,
    device: Arc<Device>,
}

impl Vulkan {
    fn new(gpu: &Gpu, tiers: Tiers, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Vulkan, Error> {
        let device = gpu.device.clone();
        Ok(Vulkan {
            stream: Stream::new(&device)?,
            programs: HashMap::new(),
            open: None,
            pipelines: gpu.pipelines.clone(),
            weights: Weights::new(file),
            arena: Buffer::new(&device, arena_bytes, Place::Device)?,
            nothing: Buffer::new(&device, 16, Place::Device)?,
            tiers,
            most_flop: (gpu.flop_per_second * SUBMISSION_SECONDS) as u64,
            longest: LONGEST_SECONDS,
            corrections: 0,
            timed: false,
            last: None,
            device,
        })
    }

    /// Bytes of memory that all engines on the device hold now.
    pub fn allocated_bytes(&self) -> u64 {
        self.device.allocated.load(Ordering::Relaxed)
    }

    /// Cuts the programs to come into submissions of so many floating-point operations at most, and anew where one is
    /// measured to take longer than this. By default they have what the device is expected to do in 0.1 s, and may take
    /// 0.2 s: operating systems reset devices whose submissions take seconds.
    pub fn limit_submissions(&mut self, flop: u64, longest: Duration) {
        (self.most_flop, self.longest) = (flop.max(1), longest.as_secs_f64());
    }

    /// Times every kernel of the programs to come, or no longer does. Timed kernels do not overlap.
    ///
    /// # Errors
    /// [`Error`] of the device, which is waited for.
    pub fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        self.device.wait_idle()?;
        self.programs.clear();
        (self.timed, self.last) = (timed, None);
        Ok(())
    }

    /// How long the kernels of the last program took, the longest first; nothing unless they were timed.
    ///
    /// # Errors
    /// [`Error`] of the device, which is waited for.
    pub fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let last = self.last.and_then(|program| self.programs.get(&program));
        last.map_or(Ok(Vec::new()), Recording::times)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn tiers(&self) -> Tiers {
        self.tiers
    }

    pub(crate) fn pipelines(&self) -> MutexGuard<'_, Pipelines> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a view lies; weights are brought to the device where they are not there yet.
    pub(crate) fn locate(&mut self, view: &View) -> Result<Placed, Error> {
        match view.region {
            Region::Arena => {
                let len = view.len_bytes().unwrap_or(usize::MAX);
                Ok(self.arena.place(view.offset, view.stride, len))
            }
            Region::Weights => self.weights.locate(view, &mut self.stream),
        }
    }

    /// Appends a kernel to the open recording; without one, in a recording of its own that runs at once.
    pub(crate) fn record(&mut self, dispatch: &Dispatch<'_>) -> Result<(), Error> {
        if let Some(open) = &mut self.open {
            return open.push(dispatch);
        }
        let mut alone = self.recording()?;
        alone.push(dispatch)?;
        self.run(alone)
    }

    /// Whether a recorded program was measured to be cut too coarsely; from now on programs are cut finer.
    fn is_too_coarse(&mut self, program: Program) -> Result<bool, Error> {
        let compiled = |recording: &&Recording| recording.runs > 1 || !self.device.about.is_processor();
        let recording = self.programs.get(&program).filter(compiled).filter(|_| self.corrections < CORRECTIONS);
        let Some((seconds, flop)) = recording.map_or(Ok(None), Recording::longest)? else { return Ok(false) };
        let too_long = seconds > self.longest;
        if too_long {
            let share = SUBMISSION_SECONDS / LONGEST_SECONDS * self.longest / seconds;
            self.most_flop = self.most_flop.min((flop as f64 * share) as u64).max(1);
            self.corrections += 1;
        }
        Ok(too_long)
    }

    /// Opens an empty recording, whose weights stay on the device.
    pub(crate) fn open_anew(&mut self) -> Result<(), Error> {
        self.weights.pass(false);
        self.open = Some(self.recording()?);
        Ok(())
    }

    /// Runs the open recording once and waits for it.
    pub(crate) fn run_open(&mut self) -> Result<(), Error> {
        self.open.take().map_or(Ok(()), |open| self.run(open))
    }

    fn recording(&self) -> Result<Recording, Error> {
        Recording::new(&self.device, self.most_flop, self.timed)
    }

    /// Runs a recording once and waits for it.
    fn run(&mut self, mut recording: Recording) -> Result<(), Error> {
        recording.finish()?;
        let result = self.stream.submit(&recording.segments).and_then(|()| self.stream.wait());
        if result.is_err() {
            // Its commands may be under way.
            let _ = self.device.wait_idle();
        }
        self.weights.next_kernel();
        result
    }
}

macro_rules! forward_kernels {
    ($($name:ident: $op:ident,)*) => {
        impl Kernels for Vulkan {
            type Error = Error;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Error> {
                    kernels::$name::launch(self, op)
                }
            )*
        }
    };
}

forward_kernels! {
    linear: Linear,
    class_condition: ClassCondition,
    context_tokens: ContextTokens,
    patchify: Patchify,
    unpatchify: Unpatchify,
    norm_modulate: NormModulate,
    rms_norm: RmsNorm,
    layer_norm: LayerNorm,
    qk_norm_rope: QkNormRope,
    attention: Attention,
    causal_attention: CausalAttention,
    swiglu: Swiglu,
    quantize_rows: QuantizeRows,
    gather_rows: GatherRows,
    dequantize_blocks: DequantizeBlocks,
    solver_step: SolverStep,
}

// SAFETY: the bounds are the sizes that the buffers were made with.
unsafe impl Backend for Vulkan {
    fn precision(&self) -> Precision {
        self.tiers.precision()
    }

    fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.len(), arena: self.arena.len() }
    }

    fn begin(&mut self, program: Program) -> Result<bool, Error> {
        // What a failure left behind.
        self.open = None;
        if self.programs.contains_key(&program) {
            if !self.is_too_coarse(program)? {
                return Ok(false);
            }
            // It may be under way.
            self.device.wait_idle()?;
            self.programs.remove(&program);
        }
        match program {
            // A few times an image: not worth a recording, nor room for its weights.
            Program::Modulation { .. } => self.weights.pass(true),
            _ => self.open_anew()?,
        }
        Ok(true)
    }

    fn submit(&mut self, program: Program) -> Result<(), Error> {
        self.weights.pass(false);
        if let Some(mut recording) = self.open.take() {
            recording.finish()?;
            self.programs.insert(program, recording);
        }
        if let Some(recording) = self.programs.get_mut(&program) {
            self.stream.submit(&recording.segments)?;
            recording.runs += 1;
            self.last = Some(program);
        }
        Ok(())
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write(self.arena.raw, view.offset, bytes)
    }

    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.stream.read(self.arena.raw, view.offset, bytes)
    }
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // A lost device has nothing under way either.
        let _ = self.device.wait_idle();
        self.pipelines().save();
    }
}

impl std::fmt::Debug for Vulkan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vulkan").field("device", &self.device).field("tiers", &self.tiers).finish_non_exhaustive()
    }
}
