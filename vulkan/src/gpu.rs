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
use crate::tier::{Tiers, Unused};
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
    /// Uses tiers that are slower than those below, as a `tier` that is named always is; for tests.
    pub slow: bool,
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
    unused: Vec<(Tier, Unused)>,
    flop_per_second: f64,
    pipelines: Arc<Mutex<Pipelines>>,
}

impl Gpu {
    /// Opens a device and checks every tier before use: its results, and that it is no slower than the tiers below. After a
    /// crash in an optional tier, opens it again without that.
    ///
    /// # Errors
    /// [`Error`], naming what the machine or device lacks.
    pub fn open(options: &Options) -> Result<Gpu, Error> {
        let mut lost = Vec::new();
        loop {
            match Gpu::open_without(&lost, options) {
                Err((Some(tier), Error::DeviceLost { .. })) if tier != Tier::Floor && !lost.contains(&tier) => {
                    lost.push(tier);
                }
                opened => return opened.map_err(|(_, e)| e),
            }
        }
    }

    /// An error comes with the tier whose kernels met it, if any.
    fn open_without(lost: &[Tier], options: &Options) -> Result<Gpu, (Option<Tier>, Error)> {
        let of_none = |e| (None, e);
        let mut gpu = Gpu::unchecked(lost, options).map_err(of_none)?;
        let backend = |tiers, file, bytes| gpu.backend_with(tiers, file, bytes);
        let unusable = self_test::unusable(gpu.tiers, &backend).map_err(|(tier, e)| (Some(tier), e))?;
        if unusable.iter().any(|(tier, _)| *tier == Tier::Floor) {
            return Err(of_none(Error::SelfTest { device: gpu.info.name }));
        }
        let mut right = unusable.iter().fold(gpu.tiers, |tiers, (tier, _)| tiers.without(*tier));
        let named = options.tier.is_some() || options.slow;
        // A processor has no such arithmetic, but tests run it there.
        right.packed &= named || !gpu.device.about.is_processor();
        right.packed &= self_test::packs(right, &backend).map_err(|e| (Some(Tier::Fp16), e))?;
        let flop_per_second = self_test::speed(right, &backend).map_err(of_none)?;
        // A processor compiles in each first run, for longer than any tier saves; nobody has one for its speed.
        let tiers = match named || gpu.device.about.is_processor() {
            true => right,
            false => self_test::without_slow(right, flop_per_second, &backend).map_err(of_none)?,
        };
        let slow = Tier::ALL.into_iter().filter(|&tier| right.has(tier) && !tiers.has(tier));
        gpu.unused.extend(unusable.into_iter().chain(slow.map(|tier| (tier, Unused::Slow))));
        (gpu.tiers, gpu.flop_per_second) = (tiers, flop_per_second);
        match options.tier {
            Some(tier) if !gpu.tiers.has(tier) => Err(of_none(Error::NoTier { device: gpu.info.name, tier })),
            _ => Ok(gpu),
        }
    }

    /// Opens a device with all tiers that it claims and that may be used, but `lost`.
    fn unchecked(lost: &[Tier], options: &Options) -> Result<Gpu, Error> {
        let calls = Calls::new(options.faults.clone());
        let instance = Instance::new(calls, &options.validation)?;
        let device = Device::open(instance, options.device, options.apart, lost)?;
        let info = device.about.info(options.device.unwrap_or(0));
        let cache = options.cache.as_deref().map(|folder| disk_cache::path(folder, &device.about.properties));
        let tiers = match options.tier {
            Some(tier) if !info.tiers.has(tier) => return Err(Error::NoTier { device: info.name, tier }),
            Some(tier) => info.tiers.up_to(tier),
            None => info.tiers,
        };
        let pipelines = Arc::new(Mutex::new(Pipelines::new(&device, cache)?));
        let unused = lost.iter().map(|tier| (*tier, Unused::Lost)).collect();
        Ok(Gpu { device, info, tiers, unused, flop_per_second: 1e9, pipelines })
    }

    /// Returns a description of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The tiers in use.
    pub fn tiers(&self) -> Tiers {
        self.tiers
    }

    /// Returns the tiers that the device claims and that are not used, and why.
    pub fn unused_tiers(&self) -> &[(Tier, Unused)] {
        &self.unused
    }

    /// Floating-point operations a second of a small product in f32, with the time to start it.
    pub fn flop_per_second(&self) -> f64 {
        self.flop_per_second
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
