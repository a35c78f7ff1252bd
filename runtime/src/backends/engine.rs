//! What an entry of the registry brings.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use denoir_core::backend::TapFn;
use denoir_core::{DType, Precision};

use crate::{BackendKind, Denoise, DeviceMemory, Error, Isa, Model, Options};

/// Opens a device for a model.
pub(super) type Open<T> = fn(&Arc<Model>, &Options) -> T;

/// A backend of this build.
pub(super) struct Entry {
    pub(super) kind: BackendKind,
    /// The devices of this machine.
    pub(super) devices: fn() -> Vec<Device>,
    /// Opens the device that the options ask for, with room for their batch.
    pub(super) open: Open<Result<Opened, Error>>,
    /// The same if `auto` takes the backend on this machine.
    pub(super) open_for_auto: Open<Option<Result<Opened, Error>>>,
}

/// Something that can run the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is a device of; never [`BackendKind::Auto`].
    pub backend: BackendKind,
    /// Its number for [`Options::device`].
    pub index: usize,
    /// What it is called.
    pub name: String,
    /// Instruction sets in the order in which they add to each other, or feature tiers, the fastest last.
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

/// An engine on a device.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) device: Device,
    /// What the user should know about the device, a line each.
    pub(crate) warnings: Vec<String>,
}

/// The error where images are to be drawn into memory of a device that has none for that.
pub(crate) fn no_device_memory() -> Error {
    Error::Backend("only CUDA devices have memory that images can be drawn into".into())
}

/// What an engine gives a denoiser to.
pub(crate) type Use<'u> = dyn FnMut(&mut dyn Denoise) -> Result<(), Error> + 'u;

/// A device with the memory that a pipeline takes on it. The methods are those of [`Pipeline`](crate::Pipeline); what
/// is said here holds for an engine that does not say otherwise.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Gives a denoiser over the model with room for `batch` images to `f`, every intermediate tensor to `tap`.
    fn run(&mut self, model: &Model, batch: usize, tap: Option<&mut TapFn<'_>>, f: &mut Use<'_>) -> Result<(), Error>;

    /// Writes the images that a denoiser with room for `batch` left on the device, these of the request, to memory of the
    /// program.
    fn deliver(&mut self, _: &Model, _batch: usize, _which: Range<usize>, _to: &DeviceMemory) -> Result<(), Error> {
        Err(no_device_memory())
    }

    fn arena_bytes(&self) -> usize;

    fn precision(&self) -> Precision;

    fn isa(&self) -> Option<Isa> {
        None
    }

    fn threads(&self) -> usize {
        1
    }

    fn peak_gflops(&self, _weights: DType) -> Option<f64> {
        None
    }

    fn device_bytes(&self) -> Option<u64> {
        None
    }

    fn set_timed(&mut self, _timed: bool) -> Result<(), Error> {
        Ok(())
    }

    fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        Ok(Vec::new())
    }

    fn take_device_times(&mut self) -> Result<Vec<f64>, Error> {
        Ok(Vec::new())
    }
}
