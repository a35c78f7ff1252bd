//! The Vulkan backend.

use std::path::PathBuf;
use std::sync::Arc;

use denoir_core::backend::{Backend, TapFn};
use denoir_core::{Precision, RunError};
use denoir_vulkan::{DeviceInfo, Gpu, Tier, Vulkan};

use super::engine::{Device, Engine, Entry, KernelTime, Opened, Use};
use crate::{BackendKind, DeviceError, Error, Model, Options};

pub(super) const ENTRY: Entry = Entry { kind: BackendKind::Vulkan, devices, is_for_auto, open };

/// `DENOIR_VULKAN_TIER` names the highest tier to use.
fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    let tier = match std::env::var("DENOIR_VULKAN_TIER") {
        Err(_) => None,
        Ok(name) => Some(Tier::from_name(&name).ok_or_else(|| {
            let known = Tier::ALL.map(Tier::name).join(", ");
            Error::Backend(format!("DENOIR_VULKAN_TIER is {name:?}: the tiers are {known}"))
        })?),
    };
    let wanted = denoir_vulkan::Options { device: options.device, tier, cache: cache(), ..Default::default() };
    let gpu = Gpu::open(&wanted)?;
    let mut device = describe(gpu.info());
    device.levels = gpu.tiers().list().map(Tier::name).collect();
    let warning = |tier: &Tier| format!("{} computes wrongly in tier {tier}, which is not used", device.name);
    let warnings = gpu.wrong_tiers().iter().map(warning).collect();
    let arena_bytes = model.network().arena_bytes(options.batch(), gpu.precision())?;
    let engine = Box::new(gpu.backend(model.whole()?, arena_bytes)?);
    Ok(Opened { engine, device, warnings })
}

/// Empty on machines without Vulkan.
fn devices() -> Vec<Device> {
    denoir_vulkan::devices().unwrap_or_default().iter().map(describe).collect()
}

/// Returns whether the first device is a graphics card.
fn is_for_auto() -> bool {
    denoir_vulkan::devices().is_ok_and(|devices| devices.first().is_some_and(|first| first.kind == "discrete"))
}

fn describe(info: &DeviceInfo) -> Device {
    Device {
        backend: BackendKind::Vulkan,
        index: info.index,
        name: format!("{} ({}, Vulkan {})", info.name, info.kind, info.api),
        levels: info.tiers.list().map(Tier::name).collect(),
        threads: 0,
        memory_bytes: Some(info.memory_bytes),
    }
}

/// The user's cache folder, for compiled kernels.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|f| !f.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) { folder("LOCALAPPDATA") } else { folder("XDG_CACHE_HOME") };
    Some(base.or_else(|| Some(folder("HOME")?.join(".cache")))?.join("denoir").join("vulkan"))
}

impl Engine for Vulkan {
    fn run(&mut self, model: &Model, batch: usize, tap: Option<&mut TapFn<'_>>, f: &mut Use<'_>) -> Result<(), Error> {
        model.network().with_tapped(batch, self, tap, f)
    }

    fn arena_bytes(&self) -> usize {
        self.bounds().arena
    }

    fn precision(&self) -> Precision {
        Backend::precision(self)
    }

    fn device_bytes(&self) -> Option<u64> {
        Some(self.allocated_bytes())
    }

    fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        Ok(Vulkan::set_timed(self, timed)?)
    }

    fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let times = Vulkan::kernel_times(self)?.into_iter();
        Ok(times.map(|time| KernelTime { name: time.name, runs: time.runs, ms: time.ms }).collect())
    }
}

impl From<RunError<denoir_vulkan::Error>> for Error {
    fn from(e: RunError<denoir_vulkan::Error>) -> Self {
        Error::Run(e.map_device(DeviceError::Vulkan))
    }
}

impl From<denoir_vulkan::Error> for Error {
    fn from(e: denoir_vulkan::Error) -> Self {
        Error::Device(DeviceError::Vulkan(e))
    }
}
