//! The backend: programs as graphs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use denoir_core::Precision;
use denoir_core::backend::{Backend, ModelFile, Program};
use denoir_core::ops::{Bounds, Op};
use denoir_core::pixels::DeviceImages;
use denoir_core::{DType, EVALUATE, View};

use crate::device::Context;
use crate::kernels::pixels;
use crate::launch::Launcher;
use crate::memory::Buffer;
use crate::modules::Modules;
use crate::spans::Spans;
use crate::stream::Graph;
use crate::timers::KernelTime;
use crate::{Error, LinearTile, kernels};

/// Tensor cores multiply 16-bit numbers and int8.
pub(crate) const PRECISION: Precision = Precision {
    f16: DType::F16,
    bf16: DType::BF16,
    centred: false,
    fused_swiglu: true,
    rounded_qkv: true,
    rounded_rows: true,
    streamed: true,
};

/// The backend for a CUDA device.
pub struct Cuda {
    /// First in drop order: its stream waits for the device.
    launcher: Launcher,
    programs: HashMap<Program, Graph>,
    /// Whether programs time each of their kernels.
    timed: bool,
    /// The program that ran last.
    last_program: Option<Program>,
    /// Times whole evaluations, if requested.
    spans: Option<Spans>,
    /// A word that [`Cuda::write_images`] asks the device to set, once it has been called.
    bad: Option<Buffer>,
}

impl Cuda {
    pub(crate) fn new(
        context: &Arc<Context>,
        modules: &Arc<Mutex<Modules>>,
        tile: Option<LinearTile>,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Cuda, Error> {
        let _entered = context.enter()?;
        let launcher = Launcher::new(context, modules, tile, file, arena_bytes)?;
        Ok(Cuda { launcher, programs: HashMap::new(), timed: false, last_program: None, spans: None, bad: None })
    }

    fn context(&self) -> &Arc<Context> {
        &self.launcher.context
    }

    /// Name of the last kernel launched or recorded.
    pub(crate) fn last_kernel(&self) -> &'static str {
        self.launcher.last_kernel
    }

    /// Bytes of device memory that all backends on the device hold.
    pub fn allocated_bytes(&self) -> u64 {
        self.context().allocated.load(Ordering::Relaxed)
    }

    /// Sets whether programs time each of their kernels. They are then recorded again and pause between kernels.
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn set_timed(&mut self, timed: bool) -> Result<(), Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        self.launcher.stream.wait()?;
        self.programs.clear();
        self.last_program = None;
        self.timed = timed;
        Ok(())
    }

    /// Returns the kernel times of the last program, longest first; empty unless [`set_timed`](Cuda::set_timed) turned
    /// timing on.
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let _entered = self.context().enter()?;
        self.launcher.stream.wait()?;
        self.last_program.and_then(|program| self.programs.get(&program)).map_or(Ok(Vec::new()), Graph::kernel_times)
    }

    /// Writes images from the arena, a row of `x` each, to memory of the device, in the order of all work before. Waits,
    /// and returns whether all values are finite.
    ///
    /// # Errors
    /// Errors of the driver.
    ///
    /// # Safety
    /// The view lies in the arena, and its rows are images of such channels, height and width in f32.
    /// [`DeviceImages::image_bytes`] is not an error, and as many bytes for each row are memory in the device's context,
    /// which nothing else uses until this returns.
    pub unsafe fn write_images(&mut self, x: &View, to: &DeviceImages) -> Result<bool, Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        self.launcher.close_recording();
        let bad = match self.bad.take() {
            Some(bad) => bad,
            None => Buffer::new(&context, size_of::<u32>())?,
        };
        let bad = self.bad.insert(bad);
        self.launcher.stream.write(bad.at, &[0; 4])?;
        pixels::launch(&mut self.launcher, x, to, bad)?;
        let mut word = [0; 4];
        self.launcher.stream.read(bad.at, &mut word)?;
        Ok(word == [0; 4])
    }

    /// Returns the milliseconds of each replayed evaluation so far. The first call starts the measurement.
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn take_spans(&mut self) -> Result<Vec<f64>, Error> {
        let _entered = self.context().enter()?;
        self.launcher.stream.wait()?;
        let before = self.spans.replace(Spans::new(self.context())?);
        before.map_or(Ok(Vec::new()), Spans::finish)
    }
}

// SAFETY: the bounds are the file's length and what the arena was made with.
unsafe impl Backend for Cuda {
    type Error = Error;

    fn precision(&self) -> Precision {
        PRECISION
    }

    fn bounds(&self) -> Bounds {
        Bounds { weights: self.launcher.weights.file_bytes(), arena: self.launcher.arena.len }
    }

    fn begin(&mut self, program: Program) -> Result<bool, Error> {
        // What a failure left behind.
        self.launcher.close_recording();
        if self.programs.contains_key(&program) {
            return Ok(false);
        }
        match program.is_recorded() {
            true => self.launcher.open_recording(),
            false => self.launcher.weights.stream(true),
        }
        Ok(true)
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        let on = &mut self.launcher;
        on.weights.next_kernel();
        kernels::launch(on, op)
    }

    fn submit(&mut self, program: Program) -> Result<(), Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        if let Some(launches) = self.launcher.close_recording() {
            let graph = self.launcher.stream.capture(&launches, self.timed)?;
            self.programs.insert(program, graph);
        }
        let Some(graph) = self.programs.get(&program) else { return Ok(()) };
        self.last_program = Some(program);
        let stream = &self.launcher.stream;
        match &mut self.spans {
            // What a profiler should look at: nothing else is timed kernel by kernel.
            _ if self.timed => stream.profiled(graph),
            Some(spans) if program.name == EVALUATE => spans.around(stream, graph),
            _ => stream.replay(graph),
        }
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        self.launcher.stream.write(self.launcher.arena.at + at as u64, bytes)
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let context = self.context().clone();
        let _entered = context.enter()?;
        self.launcher.stream.read(self.launcher.arena.at + at as u64, bytes)
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda").field("context", self.context()).finish_non_exhaustive()
    }
}
