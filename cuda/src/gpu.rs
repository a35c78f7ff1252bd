//! Opens a device.

use std::sync::{Arc, Mutex};

use denoir_core::Precision;
use denoir_core::backend::ModelFile;

use crate::backend::{Cuda, PRECISION};
use crate::calls::{Calls, Faults};
use cudarc::driver::sys::CUstream;

use crate::device::{Context, DeviceInfo, Driver};
use crate::modules::Modules;
use crate::{Error, LinearTile, self_test};

/// If this variable is `skip`, devices open without the self-test, for debugging.
const SELF_TEST: &str = "DENOIR_CUDA_SELF_TEST";

/// Options for opening a device.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The device's number; the first by default.
    pub device: Option<usize>,
    /// Injected call failures, for tests.
    pub faults: Option<Arc<Faults>>,
}

/// An open device, on which backends are created.
#[derive(Clone)]
pub struct Gpu {
    /// Dropped before the context that holds them.
    modules: Arc<Mutex<Modules>>,
    context: Arc<Context>,
    tile: Option<LinearTile>,
    checked: bool,
}

impl Gpu {
    /// Opens a device and checks its results, unless the environment variable `DENOIR_CUDA_SELF_TEST` is `skip`.
    ///
    /// # Errors
    /// [`Error`], naming what the machine or device lacks, or the kernels with wrong results.
    pub fn open(options: &Options) -> Result<Gpu, Error> {
        Gpu::of(Driver::open(Calls::new(options.faults.clone()))?.context(options.device)?)
    }

    /// Opens the device of a stream that the program made, a `CUstream` or `cudaStream_t`. Backends then work in its
    /// context, share its memory, and put all their work on the stream, in its order.
    ///
    /// # Errors
    /// As [`Gpu::open`]; [`Error::StreamOfOtherDevice`].
    /// # Safety
    /// The stream outlives this and all backends, and captures nothing while they work.
    pub unsafe fn open_on(stream: CUstream, options: &Options) -> Result<Gpu, Error> {
        let driver = Driver::open(Calls::new(options.faults.clone()))?;
        // SAFETY: the caller promises that the stream is alive for as long as anything holds the context.
        Gpu::of(unsafe { driver.context_of_stream(stream, options.device) }?)
    }

    fn of(context: Arc<Context>) -> Result<Gpu, Error> {
        let modules = Arc::new(Mutex::new(Modules::new(&context)));
        let checked = std::env::var_os(SELF_TEST).is_none_or(|how| how != "skip");
        let gpu = Gpu { modules, context, tile: None, checked };
        if checked {
            self_test::run(&gpu.info().name, &|tile, file, arena_bytes| gpu.backend_with(tile, file, arena_bytes))?;
        }
        Ok(gpu)
    }

    /// The same device with one tile for all tensor-core linear layers that support it, for tests.
    pub fn with_tile(&self, tile: LinearTile) -> Gpu {
        Gpu { tile: Some(tile), ..self.clone() }
    }

    /// Returns whether the device passed its self-test; if not, the test was skipped.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// Returns a description of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    /// Returns the activation types that a backend on this device prefers.
    pub fn precision(&self) -> Precision {
        PRECISION
    }

    /// Creates a backend for a model file and an arena of this size in bytes.
    ///
    /// # Errors
    /// [`Error`], mainly if the device is out of memory.
    pub fn backend(&self, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Cuda, Error> {
        self.backend_with(self.tile, file, arena_bytes)
    }
}

impl Gpu {
    fn backend_with(
        &self,
        tile: Option<LinearTile>,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Cuda, Error> {
        Cuda::new(&self.context, &self.modules, tile, file, arena_bytes)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(self.info()).finish()
    }
}
