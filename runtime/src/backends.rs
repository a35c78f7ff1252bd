//! What this build can run a network on: one entry for each backend, and the trait that their engines share.

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

/// The backends of this build. `auto` takes the first that it can, of which the processor is one.
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
    /// Whether `auto` takes it.
    is_for_auto: fn() -> bool,
    /// Opens the device that the options ask for, with room for their batch.
    open: fn(&Arc<Model>, &Options) -> Result<Opened, Error>,
}

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

/// Something that can run the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is a device of; never [`BackendKind::Auto`].
    pub backend: BackendKind,
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

/// The devices that this build can use on this machine, the processor first.
pub fn devices() -> Vec<Device> {
    ENTRIES.iter().rev().flat_map(|entry| (entry.devices)()).collect()
}

/// An engine on a device.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) device: Device,
    /// What the user should know about the device, a line each.
    pub(crate) warnings: Vec<String>,
}

/// Opens what the options ask for.
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

/// What an engine gives a denoiser to.
pub(crate) type Use<'u> = dyn FnMut(&mut dyn Denoise) -> Result<(), Error> + 'u;

/// A device with the memory that a pipeline takes on it. The methods are those of [`Pipeline`](crate::Pipeline); what is
/// said here holds for an engine that does not say otherwise.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Gives a denoiser over the model with room for `batch` images to `f`, every intermediate tensor to `tap`.
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
