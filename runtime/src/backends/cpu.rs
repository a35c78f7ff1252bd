//! The CPU backend.

use std::sync::Arc;
#[cfg(feature = "vulkan")]
use std::time::Duration;
use std::time::Instant;

use denoir_core::backend::TapFn;
use denoir_core::cpu::Cpu;
use denoir_core::{DType, Executor, ModelError, Precision, Weight};

use super::engine::{Device, Engine, Entry, Opened, Use};
use super::packed::Packed;
#[cfg(feature = "vulkan")]
use super::race::Race;
use crate::system::{self, available_threads};
use crate::{AlignedBytes, BackendKind, Error, Isa, Model, Options, Pool};

pub(super) const ENTRY: Entry =
    Entry { kind: BackendKind::Cpu, devices: || vec![device()], open, open_for_auto: |model, o| Some(open(model, o)) };

/// The processor, with a pipeline's memory.
#[derive(Debug)]
struct CpuEngine {
    arena: AlignedBytes,
    /// What kernels work in.
    scratch: AlignedBytes,
    packed: Packed,
    pool: Pool,
    isa: Isa,
}

fn open(model: &Arc<Model>, options: &Options) -> Result<Opened, Error> {
    if let Some(device @ 1..) = options.device {
        return Err(Error::Backend(format!("there is no CPU device {device}, only 0")));
    }
    // Before the threads start: the system must enable some instruction sets, and does so only for new threads.
    let inputs = |weights: &[Weight]| Isa::detect_for(weights.iter().map(|weight| weight.data.dtype));
    let isa = options.isa.map_or_else(|| model.network().matrices().map(|weights| inputs(&weights)), Ok)?;
    let arena_bytes = model.network().arena_bytes(options.batch(), isa.precision())?;
    let arena = AlignedBytes::zeroed(arena_bytes)?;
    let pool = Pool::new(options.threads.unwrap_or_else(available_threads)).map_err(Error::Threads)?;
    let scratch = AlignedBytes::zeroed(model.network().scratch_bytes(options.batch(), isa, pool.threads())?)?;
    let packed = Packed::new(model, isa, &pool)?;
    let engine = Box::new(CpuEngine { arena, scratch, packed, pool, isa });
    Ok(Opened { engine, device: device(), warnings: Vec::new() })
}

/// How long a product takes in the model's type of weights, on all threads.
#[cfg(feature = "vulkan")]
pub(super) fn time(model: &Model, options: &Options) -> Option<Duration> {
    let weights = model.network().weight_type();
    let isa = Isa::detect_for([weights]);
    let race = Race::new(weights, &isa.precision())?;
    let pool = Pool::new(options.threads.unwrap_or_else(available_threads)).ok()?;
    let mut arena = AlignedBytes::zeroed(race.arena.as_slice().len()).ok()?;
    let mut cpu = Cpu::new(race.weights.as_slice(), arena.as_mut_slice(), &pool, isa).ok()?;
    race.time(&mut cpu)
}

fn device() -> Device {
    Device {
        backend: BackendKind::Cpu,
        index: 0,
        name: system::cpu_name(),
        levels: Isa::names().collect(),
        threads: available_threads(),
        memory_bytes: system::memory_bytes(),
    }
}

impl Engine for CpuEngine {
    fn run(&mut self, model: &Model, batch: usize, tap: Option<&mut TapFn<'_>>, f: &mut Use<'_>) -> Result<(), Error> {
        let misaligned = |_| Error::Model(None, ModelError::MisalignedFile);
        let cpu = Cpu::new(model.bytes(), self.arena.as_mut_slice(), &self.pool, self.isa).map_err(misaligned)?;
        // The modulation's matrices, a quarter to a third of a network, run once for many steps: given back one by one,
        // they are never in memory as a whole.
        let cpu = cpu.with_scratch(self.scratch.as_mut_slice()).with_packed(self.packed.bytes()).with_file(model);
        model.network().with_tapped(batch, cpu, tap, f)
    }

    fn arena_bytes(&self) -> usize {
        self.arena.as_slice().len()
    }

    fn precision(&self) -> Precision {
        self.isa.precision()
    }

    fn isa(&self) -> Option<Isa> {
        Some(self.isa)
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn peak_gflops(&self, weights: DType) -> Option<f64> {
        let threads = self.pool.threads();
        let flop = self.isa.spin(weights)? * threads as f64;
        let once = || {
            let start = Instant::now();
            self.pool.run(threads, &|_| {
                self.isa.spin(weights);
            });
            flop / start.elapsed().as_secs_f64() / 1e9
        };
        Some((0..5).map(|_| once()).fold(0.0, f64::max))
    }
}
