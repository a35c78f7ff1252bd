//! Launches as a device would get them, without a device.

use std::collections::HashMap;

use denoir_core::backend::{Backend, Program};
use denoir_core::ops::{Bounds, Op};
use denoir_core::{Precision, Region, View};

use crate::backend::PRECISION;
use crate::launch::Target;
use crate::memory::Placed;
use crate::modules::Kernel;
use crate::{DeviceInfo, Error, LinearTile, kernels};

/// A launch that a [`Planner`] was asked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlannedLaunch {
    /// What it computes.
    pub op: Op,
    /// The kernel's name.
    pub kernel: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory of a block, without what the kernel itself declares.
    pub shared: u32,
}

impl PlannedLaunch {
    /// The clocks of a multiprocessor that the backend expects a linear layer on tensor cores to take, as it chose the
    /// tile by them. `None` for every other kernel.
    pub fn expected_clocks(&self, info: &DeviceInfo) -> Option<f64> {
        match &self.op {
            Op::Linear(op) => kernels::linear::expected_clocks(info, op, self.kernel, self.shared),
            _ => None,
        }
    }
}

/// A program's launches, and how often it ran.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PlannedProgram {
    /// In order.
    pub launches: Vec<PlannedLaunch>,
    /// How often it ran.
    pub runs: usize,
}

/// A backend that computes nothing: it notes what a device of a given kind would be asked to run. Models of a device's
/// speed are made from that. Reads give zeros.
#[derive(Debug)]
pub struct Planner {
    info: DeviceInfo,
    tile: Option<LinearTile>,
    bounds: Bounds,
    programs: HashMap<Program, PlannedProgram>,
    open: Vec<PlannedLaunch>,
    op: Option<Op>,
}

impl Planner {
    /// Plans for a device, a model file and an arena of these sizes; with one tile for all tensor-core linear layers
    /// that support it, or the backend's choice.
    pub fn new(info: DeviceInfo, tile: Option<LinearTile>, bounds: Bounds) -> Planner {
        Planner { info, tile, bounds, programs: HashMap::new(), open: Vec::new(), op: None }
    }

    /// The programs that ran.
    pub fn programs(&self) -> &HashMap<Program, PlannedProgram> {
        &self.programs
    }
}

impl Target for Planner {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn tile(&self) -> Option<LinearTile> {
        self.tile
    }

    fn locate(&mut self, view: &View) -> Result<Placed, Error> {
        let stride = match view.region {
            Region::Arena => view.stride,
            Region::Weights => denoir_gpu::stride(view),
        };
        // Addresses are as aligned as on a device, and nothing reads there.
        Ok(Placed { at: view.offset as u64, stride })
    }

    fn enqueue(&mut self, kernel: &Kernel, grid: [u32; 3], _args: &[u8]) -> Result<(), Error> {
        let Kernel { name, threads, shared, .. } = *kernel;
        self.open.extend(self.op.map(|op| PlannedLaunch { op, kernel: name, grid, threads, shared }));
        Ok(())
    }
}

// SAFETY: it has no memory; the bounds are what descriptors are checked against.
unsafe impl Backend for Planner {
    type Error = Error;

    fn precision(&self) -> Precision {
        PRECISION
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn begin(&mut self, program: Program) -> Result<bool, Error> {
        self.open.clear();
        Ok(!(program.is_recorded() && self.programs.contains_key(&program)))
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Error> {
        self.op = Some(*op);
        kernels::launch(self, op)
    }

    fn submit(&mut self, program: Program) -> Result<(), Error> {
        let planned = self.programs.entry(program).or_default();
        if !self.open.is_empty() {
            planned.launches = std::mem::take(&mut self.open);
        }
        planned.runs += 1;
        Ok(())
    }

    unsafe fn upload(&mut self, _at: usize, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    unsafe fn download(&mut self, _at: usize, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.fill(0);
        Ok(())
    }
}
