//! The backends of this build: one entry for each, and the trait that their engines share.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod engine;
mod packed;
#[cfg(feature = "vulkan")]
mod race;
#[cfg(feature = "vulkan")]
mod vulkan;

use std::sync::Arc;

use crate::{BackendKind, Error, Model, Options};

use engine::Entry;
pub use engine::{Device, KernelTime};
pub(crate) use engine::{Engine, Opened, no_device_memory};

/// The backends of this build. `auto` chooses the first that is usable; the processor always is.
const ENTRIES: &[Entry] = &[
    #[cfg(feature = "cuda")]
    cuda::ENTRY,
    #[cfg(feature = "vulkan")]
    vulkan::ENTRY,
    cpu::ENTRY,
];

/// The devices that this build can use on this machine, the processor first.
pub fn devices() -> Vec<Device> {
    ENTRIES.iter().rev().flat_map(|entry| (entry.devices)()).collect()
}

/// Opens what the options ask for.
pub(crate) fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    let kind = match options.backend {
        // What only means something on one backend chooses it.
        BackendKind::Auto if options.cuda_stream.is_some() => BackendKind::Cuda,
        BackendKind::Auto if options.threads.is_some() || options.isa.is_some() => BackendKind::Cpu,
        kind => kind,
    };
    if options.cuda_stream.is_some() && kind != BackendKind::Cuda {
        return Err(Error::Backend(format!("the {} backend takes no CUDA stream", kind.name())));
    }
    if kind == BackendKind::Auto {
        let opened = ENTRIES.iter().find_map(|entry| (entry.open_for_auto)(model, options));
        return opened.unwrap_or_else(|| (cpu::ENTRY.open)(model, options));
    }
    let none = || Error::Backend(format!("this build has no {} backend", kind.name()));
    (ENTRIES.iter().find(|entry| entry.kind == kind).ok_or_else(none)?.open)(model, options)
}
