//! Opens a device.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use denoir_core::Precision;
use denoir_core::backend::ModelFile;

use crate::backend::Vulkan;
use crate::calls::{Calls, Faults};
use crate::device::{Device, DeviceInfo, candidates};
use crate::instance::{Instance, Validation};
use crate::pipelines::Pipelines;
use crate::tier::Tiers;
use crate::{Error, Tier, disk_cache, self_test};

/// Options for opening a device.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The device's number; the first by default.
    pub device: Option<usize>,
    /// The highest tier to use; by default the device's highest.
    pub tier: Option<Tier>,
    /// A folder in which to cache compiled kernels, if any.
    pub cache: Option<PathBuf>,
    /// Use of the validation layers.
    pub validation: Validation,
    /// Injected call failures, for tests.
    pub faults: Option<Arc<Faults>>,
    /// Uploads through staging buffers even if the device shares the CPU's memory, for tests.
    pub apart: bool,
}

/// Lists the devices of this machine.
///
/// # Errors
/// [`Error::NoLoader`] without Vulkan, or an error of the loader.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let instance = match Instance::new(Calls::default(), &Validation::Off) {
        Err(Error::NoDevice) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(candidates(&instance)?.iter().enumerate().map(|(i, c)| c.info(i)).collect())
}

/// An open device, on which backends are created.
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
    /// Opens a device and checks every tier before use.
    ///
    /// # Errors
    /// [`Error`], naming what the machine or device lacks.
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
        gpu.wrong = self_test::wrong_tiers(tiers, &|tiers, file, bytes| gpu.backend_with(tiers, file, bytes))?;
        if gpu.wrong.contains(&Tier::Floor) {
            return Err(Error::SelfTest { device: gpu.info.name });
        }
        gpu.tiers = gpu.wrong.iter().fold(tiers, |tiers, &tier| tiers.without(tier));
        gpu.flop_per_second = self_test::speed(gpu.tiers, &|tiers, file, bytes| gpu.backend_with(tiers, file, bytes))?;
        match options.tier {
            Some(tier) if gpu.wrong.contains(&tier) => Err(Error::NoTier { device: gpu.info.name, tier }),
            _ => Ok(gpu),
        }
    }

    /// Returns a description of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The tiers in use.
    pub fn tiers(&self) -> Tiers {
        self.tiers
    }

    /// Returns the tiers that the device claims but computes wrong results with; they are not used.
    pub fn wrong_tiers(&self) -> &[Tier] {
        &self.wrong
    }

    /// Number of submissions to the device so far, by all backends.
    pub fn submissions(&self) -> usize {
        self.device.submissions.load(Ordering::Relaxed)
    }

    /// Bytes of memory that backends on this device hold now.
    pub fn allocated_bytes(&self) -> u64 {
        self.device.allocated.load(Ordering::Relaxed)
    }

    /// Returns the activation types that a backend on this device prefers.
    pub fn precision(&self) -> Precision {
        self.tiers.precision()
    }

    /// Creates a backend for a model file and an arena of this size in bytes.
    ///
    /// # Errors
    /// [`Error`], mainly if the device is out of memory.
    pub fn backend(&self, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Vulkan, Error> {
        self.backend_with(self.tiers, file, arena_bytes)
    }

    /// Creates a backend that uses other tiers.
    fn backend_with(&self, tiers: Tiers, file: Arc<dyn ModelFile>, arena_bytes: usize) -> Result<Vulkan, Error> {
        Vulkan::new(&self.device, &self.pipelines, tiers, self.flop_per_second, file, arena_bytes)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("info", &self.info).field("tiers", &self.tiers).finish_non_exhaustive()
    }
}
