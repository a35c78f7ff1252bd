//! CUDA devices, as the runtime sees them.

use denoir_cuda::{DeviceInfo, Gpu};

use crate::{Device, Error, Options};

/// An open device.
pub(crate) struct Opened {
    pub(crate) gpu: Gpu,
    pub(crate) device: Device,
    pub(crate) warnings: Vec<String>,
}

/// Opens the device that the options ask for.
pub(crate) fn open(options: &Options) -> Result<Opened, Error> {
    let gpu = Gpu::open(&denoir_cuda::Options { device: options.device, faults: None })?;
    let device = describe(gpu.info());
    let unchecked = (!gpu.is_checked()).then(|| format!("nothing checked whether {} computes rightly", device.name));
    Ok(Opened { gpu, device, warnings: unchecked.into_iter().collect() })
}

/// The devices of this machine; none where there is no driver.
pub(crate) fn devices() -> Vec<Device> {
    denoir_cuda::devices().unwrap_or_default().iter().map(describe).collect()
}

/// Whether there is a device that the kernels run on, which `auto` prefers to everything else.
pub(crate) fn has_card() -> bool {
    denoir_cuda::devices().is_ok_and(|devices| devices.first().is_some_and(|first| first.compute >= (8, 0)))
}

fn describe(info: &DeviceInfo) -> Device {
    let (major, minor) = info.compute;
    Device {
        backend: "cuda",
        index: info.index,
        name: format!("{} (compute capability {major}.{minor})", info.name),
        levels: vec!["tensor-cores"],
        threads: 0,
        memory_bytes: Some(info.memory_bytes),
    }
}
