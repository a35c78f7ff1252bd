//! The Vulkan backend.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use denoir_core::backend::{Backend, TapFn};
use denoir_core::{Precision, RunError};
use denoir_vulkan::{DeviceInfo, Gpu, Tier, Unused, Vulkan};

use super::cpu;
use super::engine::{Device, Engine, Entry, KernelTime, Opened, Use};
use super::race::Race;
use crate::{BackendKind, DeviceError, Error, Model, Options};

pub(super) const ENTRY: Entry = Entry { kind: BackendKind::Vulkan, devices, open, open_for_auto };

fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    with_engine(gpu(options)?, model, options)
}

/// If the first device is a graphics card, or one that shares the processor's memory and multiplies faster than the
/// processor.
fn open_for_auto(model: &Arc<Model>, options: &Options) -> Option<Result<Opened, Error>> {
    let devices = denoir_vulkan::devices().ok()?;
    match devices.get(options.device.unwrap_or(0))?.kind {
        "discrete" => Some(open(model, options)),
        "integrated" => {
            let gpu = gpu(options).ok()?;
            (time(&gpu, model)? < cpu::time(model, options)?).then(|| with_engine(gpu, model, options))
        }
        _ => None,
    }
}

/// How long a product takes in the model's type of weights.
fn time(gpu: &Gpu, model: &Model) -> Option<Duration> {
    let race = Race::new(model.network().weight_type(), &gpu.precision())?;
    let mut engine = gpu.backend(Arc::new(race.weights.as_slice().to_vec()), race.arena.as_slice().len()).ok()?;
    race.time(&mut engine)
}

/// Opens the device. `DENOIR_VULKAN_TIER` names the highest tier to use.
fn gpu(options: &Options) -> Result<Gpu, Error> {
    let tier = match std::env::var("DENOIR_VULKAN_TIER") {
        Err(_) => None,
        Ok(name) => Some(Tier::from_name(&name).ok_or_else(|| {
            let known = Tier::ALL.map(Tier::name).join(", ");
            Error::Backend(format!("DENOIR_VULKAN_TIER is {name:?}: the tiers are {known}"))
        })?),
    };
    Ok(Gpu::open(&denoir_vulkan::Options { device: options.device, tier, cache: cache(), ..Default::default() })?)
}

fn with_engine(gpu: Gpu, model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    let mut device = describe(gpu.info());
    device.levels = gpu.tiers().list().map(Tier::name).collect();
    // A slow tier is no fault.
    let faulty = gpu.unused_tiers().iter().filter(|(_, why)| *why != Unused::Slow);
    let warnings =
        faulty.map(|(tier, why)| format!("{} {why} in tier {tier}, which is not used", device.name)).collect();
    let arena_bytes = model.network().arena_bytes(options.batch(), gpu.precision())?;
    let engine = Box::new(gpu.backend(model.whole()?, arena_bytes)?);
    Ok(Opened { engine, device, warnings })
}

/// Empty on machines without Vulkan.
fn devices() -> Vec<Device> {
    denoir_vulkan::devices().unwrap_or_default().iter().map(describe).collect()
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
