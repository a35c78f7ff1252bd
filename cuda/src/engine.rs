//! The backend: regions, kernels, programs as graphs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys;
use denoir_core::backend::{Backend, ModelFile, Program};
use denoir_core::ops::*;
use denoir_core::plan::Precision;
use denoir_core::{DType, View};

use crate::calls::{Calls, Faults};
use crate::device::{Context, DeviceInfo, Driver};
use crate::kernels::LinearTile;
use crate::memory::{Buffer, Weights};
use crate::modules::{Kernel, Modules};
use crate::stream::{Graph, Launch, Stream};
use crate::timers::{KernelTime, Span};
use crate::{Error, kernels, self_test};

/// Opens devices without the self-test where it is `skip`: to look into what the test finds.
const SELF_TEST: &str = "DENOIR_CUDA_SELF_TEST";

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The device's number; the first by default.
    pub device: Option<usize>,
    /// Makes a call fail: for tests.
    pub faults: Option<Arc<Faults>>,
}

/// An open device: what engines are made on.
#[derive(Clone)]
pub struct Gpu {
    /// Before the context, which they are in.
    modules: Arc<Mutex<Modules>>,
    context: Arc<Context>,
    tile: Option<LinearTile>,
    checked: bool,
}

impl Gpu {
    /// Opens a device and checks that it computes rightly, but for the check where the environment's
    /// `DENOIR_CUDA_SELF_TEST` is `skip`.
    ///
    /// # Errors
    /// [`Error`], naming what this machine or device lacks, or the kernels that compute wrongly.
    pub fn open(options: &Options) -> Result<Gpu, Error> {
        let context = Driver::open(Calls::new(options.faults.clone()))?.context(options.device)?;
        let modules = Arc::new(Mutex::new(Modules::new(&context)));
        let checked = std::env::var_os(SELF_TEST).is_none_or(|how| how != "skip");
        let gpu = Gpu { modules, context, tile: None, checked };
        if checked {
            self_test::run(&gpu)?;
        }
        Ok(gpu)
    }

    /// The same device with one tile for all linear layers of tensor cores that can have it, for tests of each.
    pub fn with_tile(&self, tile: LinearTile) -> Gpu {
        Gpu { tile: Some(tile), ..self.clone() }
    }

    /// Whether the device passed its self-test; otherwise it was skipped.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    /// The activation types that an engine on this device wants.
    pub fn precision(&self) -> Precision {
        PRECISION
    }

    /// An engine over a model file and an arena of so many bytes.
    ///
    /// # Errors
    /// [`Error`], above all when the device is out of memory.
    pub fn engine(&self, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Cuda, Error> {
        let _entered = self.context.enter()?;
        Ok(Cuda {
            stream: Stream::new(&self.context)?,
            programs: HashMap::new(),
            open: None,
            weights: Weights::new(file),
            arena: Buffer::new(&self.context, arena_bytes)?,
            tile: self.tile,
            last_kernel: "",
            timed: false,
            last_program: None,
            spans: None,
            modules: self.modules.clone(),
            context: self.context.clone(),
        })
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(self.info()).finish()
    }
}

/// Tensor cores multiply 16-bit numbers and int8.
const PRECISION: Precision = Precision { f16: DType::F16, bf16: DType::BF16, centred: false, fused_swiglu: false };

/// A CUDA device as a backend.
pub struct Cuda {
    /// First in the order in which things go: it waits for the device.
    pub(crate) stream: Stream,
    programs: HashMap<Program, Graph>,
    /// The recording under way; without one, kernels run at once.
    open: Option<Vec<Launch>>,
    pub(crate) weights: Weights,
    pub(crate) arena: Buffer,
    /// The one tile that linear layers have, where tests ask for that.
    pub(crate) tile: Option<LinearTile>,
    /// Name of the last kernel that was launched or recorded.
    pub(crate) last_kernel: &'static str,
    /// Whether programs time each of their kernels.
    timed: bool,
    /// The program that ran last.
    last_program: Option<Program>,
    /// Times programs as a whole, where that was asked for.
    spans: Option<Span>,
    /// Those of the device: engines share them.
    modules: Arc<Mutex<Modules>>,
    context: Arc<Context>,
}

// SAFETY: the handles in recorded launches are valid on any thread.
unsafe impl Send for Cuda {}
// SAFETY: as above: `&self` only reads sizes.
unsafe impl Sync for Cuda {}

impl Cuda {
    /// What the device is.
    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    pub(crate) fn function(&mut self, kernel: &Kernel) -> Result<sys::CUfunction, Error> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner).function(kernel)
    }

    /// Bytes of the device's memory that all engines on it hold.
    pub fn allocated_bytes(&self) -> u64 {
        self.context.allocated.load(Ordering::Relaxed)
    }

    /// Whether programs time each of their kernels, between which they then stop: they are recorded anew.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        let context = self.context.clone();
        let _entered = context.enter()?;
        self.stream.wait()?;
        self.programs.clear();
        self.last_program = None;
        self.timed = timed;
        Ok(())
    }

    /// How long the kernels of the program that ran last took, the longest first. Nothing unless
    /// [`set_timed`](Cuda::set_timed) came before.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let _entered = self.context.enter()?;
        self.stream.wait()?;
        self.last_program.and_then(|program| self.programs.get(&program)).map_or(Ok(Vec::new()), Graph::kernel_times)
    }

    /// From now on each replayed evaluation is timed as a whole; gives the milliseconds of those so far.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn take_spans(&mut self) -> Result<Vec<f64>, Error> {
        let _entered = self.context.enter()?;
        self.stream.wait()?;
        let before = self.spans.replace(Span::new(&self.context)?);
        before.map_or(Ok(Vec::new()), Span::finish)
    }

    /// Appends a launch to the open recording, or runs it.
    pub(crate) fn record(&mut self, launch: Launch) -> Result<(), Error> {
        self.last_kernel = launch.name;
        match &mut self.open {
            Some(launches) => launches.push(launch),
            None => self.stream.launch(&launch)?,
        }
        Ok(())
    }

    /// From now on kernels run at once.
    pub(crate) fn run_at_once(&mut self) {
        self.open = None;
        self.weights.pass(false);
    }
}

macro_rules! forward_kernels {
    ($($name:ident: $op:ident,)*) => {
        impl Kernels for Cuda {
            type Error = Error;
            $(
                unsafe fn $name(&mut self, op: &$op) -> Result<(), Error> {
                    let context = self.context.clone();
                    let _entered = context.enter()?;
                    self.weights.next_kernel();
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

// SAFETY: the bounds are the file's length and what the arena was made with.
unsafe impl Backend for Cuda {
    fn precision(&self) -> Precision {
        PRECISION
    }

    fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.len(), arena: self.arena.len }
    }

    fn begin(&mut self, program: Program) -> Result<bool, Error> {
        // What a failure left behind.
        self.run_at_once();
        if self.programs.contains_key(&program) {
            return Ok(false);
        }
        // A few times an image: not worth a graph, nor room for its weights.
        match program {
            Program::Modulation { .. } => self.weights.pass(true),
            _ => self.open = Some(Vec::new()),
        }
        Ok(true)
    }

    fn submit(&mut self, program: Program) -> Result<(), Error> {
        self.weights.pass(false);
        let _entered = self.context.enter()?;
        if let Some(launches) = self.open.take() {
            let graph = self.stream.capture(&launches, self.timed)?;
            self.programs.insert(program, graph);
        }
        let Some(graph) = self.programs.get(&program) else { return Ok(()) };
        self.last_program = Some(program);
        match &mut self.spans {
            // What a profiler should look at: nothing else is timed kernel by kernel.
            _ if self.timed => self.stream.profiled(graph),
            Some(spans) if matches!(program, Program::Evaluate { .. }) => spans.around(&self.stream, graph),
            _ => self.stream.replay(graph),
        }
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Error> {
        let _entered = self.context.enter()?;
        self.stream.write(self.arena.at + view.offset as u64, bytes)
    }

    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        let _entered = self.context.enter()?;
        self.stream.read(self.arena.at + view.offset as u64, bytes)
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda").field("context", &self.context).finish_non_exhaustive()
    }
}
