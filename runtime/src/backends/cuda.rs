//! The CUDA backend.

use std::ops::Range;
use std::sync::Arc;

use denoir_core::backend::{Backend, TapFn};
use denoir_core::{DType, Precision, RunError};
use denoir_cuda::{Cuda, DeviceInfo, Gpu};

use super::engine::{Device, Engine, Entry, KernelTime, Opened, Use};
use crate::{BackendKind, DeviceError, DeviceMemory, Error, Model, Options};

pub(super) const ENTRY: Entry = Entry { kind: BackendKind::Cuda, devices, open, open_for_auto };

fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    let on = denoir_cuda::Options { device: options.device, faults: None };
    let gpu = match options.cuda_stream {
        None => Gpu::open(&on)?,
        // SAFETY: who made the option promised that the stream lives and captures nothing.
        Some(stream) => unsafe { Gpu::open_on(stream.raw(), &on) }?,
    };
    let device = describe(gpu.info());
    let name = &device.name;
    let unchecked = (!gpu.is_checked()).then(|| format!("nothing checked whether {name} computes rightly"));
    let slow = gpu.info().multiplies_int8_slowly() && model.network().weight_type() == DType::I8;
    let slow = slow.then(|| format!("{name} multiplies int8 more slowly than bf16: a model in bf16 is faster"));
    let arena_bytes = model.network().arena_bytes(options.batch(), gpu.precision())?;
    let engine = Box::new(gpu.backend(model.whole()?, arena_bytes)?);
    Ok(Opened { engine, device, warnings: unchecked.into_iter().chain(slow).collect() })
}

/// Empty on machines without the driver.
fn devices() -> Vec<Device> {
    denoir_cuda::devices().unwrap_or_default().iter().map(describe).collect()
}

/// If the kernels run on the first device.
fn open_for_auto(model: &Arc<Model>, options: &Options) -> Option<Result<Opened, Error>> {
    denoir_cuda::devices().ok()?.first().filter(|first| first.compute >= (8, 0)).map(|_| open(model, options))
}

fn describe(info: &DeviceInfo) -> Device {
    let (major, minor) = info.compute;
    Device {
        backend: BackendKind::Cuda,
        index: info.index,
        name: format!("{} (compute capability {major}.{minor})", info.name),
        levels: vec!["tensor-cores"],
        threads: 0,
        memory_bytes: Some(info.memory_bytes),
    }
}

impl Engine for Cuda {
    fn run(&mut self, model: &Model, batch: usize, tap: Option<&mut TapFn<'_>>, f: &mut Use<'_>) -> Result<(), Error> {
        model.network().with_tapped(batch, self, tap, f)
    }

    fn deliver(&mut self, model: &Model, batch: usize, which: Range<usize>, to: &DeviceMemory) -> Result<(), Error> {
        let x = model.network().images(batch, Backend::precision(self), which.len())?;
        let to = to.images(model, which)?;
        // SAFETY: the view is of the plan that this arena was made for. The layout is checked, and the memory is what its
        // maker promised.
        let finite = unsafe { self.write_images(&x, &to) }?;
        if finite { Ok(()) } else { Err(Error::Run(RunError::NotFinite)) }
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
        Ok(Cuda::set_timed(self, timed)?)
    }

    fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let times = Cuda::kernel_times(self)?.into_iter();
        Ok(times.map(|time| KernelTime { name: time.name, runs: time.runs, ms: time.ms }).collect())
    }

    fn take_device_times(&mut self) -> Result<Vec<f64>, Error> {
        Ok(self.take_spans()?)
    }
}

impl From<RunError<denoir_cuda::Error>> for Error {
    fn from(e: RunError<denoir_cuda::Error>) -> Self {
        Error::Run(e.map_device(DeviceError::Cuda))
    }
}

impl From<denoir_cuda::Error> for Error {
    fn from(e: denoir_cuda::Error) -> Self {
        Error::Device(DeviceError::Cuda(e))
    }
}
