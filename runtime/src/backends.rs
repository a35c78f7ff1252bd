//! The backends of this build: one entry for each, and the trait that their engines share.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod packed;
mod system;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::fmt::Debug;
use std::sync::Arc;

use denoir_core::DType;
use denoir_core::backend::TapFn;

use crate::{Denoise, Error, Isa, Model, Options};

pub(crate) use cpu::available_threads;

/// The backends of this build. `auto` chooses the first that is usable; the processor always is.
const ENTRIES: &[Entry] = &[
    #[cfg(feature = "cuda")]
    cuda::ENTRY,
    #[cfg(feature = "vulkan")]
    vulkan::ENTRY,
    cpu::ENTRY,
];

/// A backend of this build.
struct Entry {
    kind: BackendKind,
    /// The devices of this machine.
    devices: fn() -> Vec<Device>,
    /// Tells whether `auto` may choose this backend.
    is_for_auto: fn() -> bool,
    /// Opens the device selected by the options, with memory for their batch.
    open: fn(&Arc<Model>, &Options) -> Result<Opened, Error>,
}

/// A backend that runs the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// The fastest backend that this build and machine support.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// Vulkan compute.
    Vulkan,
    /// NVIDIA CUDA.
    Cuda,
}

impl BackendKind {
    /// `auto`, `cpu`, `vulkan` or `cuda`.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::Auto => "auto",
            BackendKind::Cpu => "cpu",
            BackendKind::Vulkan => "vulkan",
            BackendKind::Cuda => "cuda",
        }
    }
}

/// A device that can run the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device's backend; never [`BackendKind::Auto`].
    pub backend: BackendKind,
    /// Its number for [`Options::device`].
    pub index: usize,
    /// The device's name.
    pub name: String,
    /// Instruction sets or feature tiers, the fastest last.
    pub levels: Vec<&'static str>,
    /// Processor threads; 0 if the device is not the processor.
    pub threads: usize,
    /// Memory in bytes, if the system reports it.
    pub memory_bytes: Option<u64>,
}

/// The time that a kernel took on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel and its variant.
    pub name: &'static str,
    /// Number of runs.
    pub runs: usize,
    /// Total milliseconds of all runs, by the device's own clock.
    pub ms: f64,
}

/// Lists the devices that this build can use on this machine, the processor first.
pub fn devices() -> Vec<Device> {
    ENTRIES.iter().rev().flat_map(|entry| (entry.devices)()).collect()
}

/// An engine on a device.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) device: Device,
    /// Warnings about the device, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Opens the backend and device selected by the options.
pub(crate) fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    let kind = match options.backend {
        // What only means something on the processor chooses it.
        BackendKind::Auto if options.threads.is_some() || options.isa.is_some() => BackendKind::Cpu,
        kind => kind,
    };
    let is_meant = |entry: &&Entry| match kind {
        BackendKind::Auto => (entry.is_for_auto)(),
        kind => kind == entry.kind,
    };
    let none = || Error::Backend(format!("this build has no {} backend", kind.name()));
    (ENTRIES.iter().find(is_meant).ok_or_else(none)?.open)(model, options)
}

/// A function that an engine calls with a denoiser.
pub(crate) type Use<'u> = dyn FnMut(&mut dyn Denoise) -> Result<(), Error> + 'u;

/// A device with a pipeline's memory on it. The methods are those of [`Pipeline`](crate::Pipeline), with defaults for
/// engines that do not support them.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Calls `f` with a denoiser for the model and up to `batch` images, and shows every intermediate tensor to `tap`.
    fn run(&mut self, model: &Model, batch: usize, tap: Option<&mut TapFn<'_>>, f: &mut Use<'_>) -> Result<(), Error>;

    fn arena_bytes(&self) -> usize;

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
