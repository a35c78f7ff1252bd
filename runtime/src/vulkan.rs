//! Vulkan devices, as the runtime sees them.

use std::path::PathBuf;

use denoir_vulkan::{DeviceInfo, Gpu, Tier};

use crate::{Device, Error, Options};

/// An open device and, in words, what its self-test found.
pub(crate) struct Opened {
    pub(crate) gpu: Gpu,
    pub(crate) device: Device,
    pub(crate) warnings: Vec<String>,
}

/// Opens the device that the options ask for. `DENOIR_VULKAN_TIER` names the highest tier to use.
pub(crate) fn open(options: &Options) -> Result<Opened, Error> {
    let tier = match std::env::var("DENOIR_VULKAN_TIER") {
        Err(_) => None,
        Ok(name) => Some(Tier::from_name(&name).ok_or_else(|| {
            let known = Tier::ALL.map(Tier::name).join(", ");
            Error::Backend(format!("DENOIR_VULKAN_TIER is {name:?}: the tiers are {known}"))
        })?),
    };
    let options = denoir_vulkan::Options { device: options.device, tier, cache: cache(), ..Default::default() };
    let gpu = Gpu::open(&options)?;
    let mut device = describe(gpu.info());
    device.levels = gpu.tiers().list().map(Tier::name).collect();
    let warning = |tier: &Tier| format!("{} computes wrongly in tier {tier}, which is not used", device.name);
    let warnings = gpu.wrong_tiers().iter().map(warning).collect();
    Ok(Opened { gpu, device, warnings })
}

/// The devices of this machine; none where there is no Vulkan.
pub(crate) fn devices() -> Vec<Device> {
    denoir_vulkan::devices().unwrap_or_default().iter().map(describe).collect()
}

/// Whether the first device is a graphics card, which `auto` prefers to the processor.
pub(crate) fn has_card() -> bool {
    denoir_vulkan::devices().is_ok_and(|devices| devices.first().is_some_and(|first| first.kind == "discrete"))
}

fn describe(info: &DeviceInfo) -> Device {
    Device {
        backend: "vulkan",
        index: info.index,
        name: format!("{} ({}, Vulkan {})", info.name, info.kind, info.api),
        levels: info.tiers.list().map(Tier::name).collect(),
        threads: 0,
        memory_bytes: Some(info.memory_bytes),
    }
}

/// The user's folder for what can be made again: compiled kernels.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|f| !f.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) { folder("LOCALAPPDATA") } else { folder("XDG_CACHE_HOME") };
    Some(base.or_else(|| Some(folder("HOME")?.join(".cache")))?.join("denoir").join("vulkan"))
}
