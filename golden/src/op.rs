//! `op`: one kernel at a time.

mod case;
mod kernels;

pub use case::{CaseMemory, Outputs, check};

use denoir::core::backend::{Program, run};
use denoir::core::cpu::Cpu;
use denoir::core::ops::Op;
use denoir::core::{DType, Region, View};
use denoir::{AlignedBytes, Pool};

use self::case::Case;
use crate::check::Verdict;
use crate::error::Error;
use crate::fixture::Fixture;
use crate::models::Models;

/// What the engine computes on the host; the goldens of whole networks hold it.
pub const NO_KERNEL: &str = "timestep_embed";
/// Where a tensor starts in its region.
const ALIGN: usize = 256;
/// What outputs hold before a kernel has run: NaN in every float type.
const POISON: u8 = 0xff;

pub(crate) fn verify(fixture: &Fixture, models: &Models) -> Result<Verdict, Error> {
    if fixture.parameter("op")? == NO_KERNEL {
        return Ok(Verdict::Skipped("the engine has no such kernel: the host computes it"));
    }
    let mut checks = Vec::new();
    for name in fixture.parameter("cases")?.split(',') {
        let mut regions = Regions::default();
        let (op, outputs) = kernel(fixture, name, &mut regions)?;
        let weights = AlignedBytes::copied(&regions.weights)?;
        let mut arena = AlignedBytes::copied(&regions.arena)?;
        let pool = Pool::new(models.options.threads.unwrap_or(1)).map_err(denoir::Error::Threads)?;
        let cpu = Cpu::new(weights.as_slice(), arena.as_mut_slice(), &pool, models.isa());
        let mut cpu = cpu.map_err(|e| fixture.error(&e.to_string()))?;
        let program = Program::once("op", [0; 2]);
        run(&mut cpu, program, |k| k.op(&op)).map_err(|e| fixture.error(&format!("{name}: {e}")))?;
        checks.extend(check(fixture, name, arena.as_slice(), &outputs)?);
    }
    Ok(Verdict::Checked(checks))
}

/// Places a case of a fixture of the kind `op`: the kernel's descriptor, and what it writes.
///
/// # Errors
/// [`Error::Fixture`] for a kernel that is not known, or what the fixture lacks.
pub fn kernel(fixture: &Fixture, case: &str, memory: &mut dyn CaseMemory) -> Result<(Op, Outputs), Error> {
    kernels::kernel(&mut Case { fixture, name: case, memory })
}

/// The two regions of a case.
#[derive(Default)]
struct Regions {
    weights: Vec<u8>,
    arena: Vec<u8>,
}

impl CaseMemory for Regions {
    fn tensor(&mut self, region: Region, dtype: DType, (rows, cols): (usize, usize), bytes: &[u8]) -> View {
        let to = match region {
            Region::Weights => &mut self.weights,
            _ => &mut self.arena,
        };
        to.resize(to.len().next_multiple_of(ALIGN), POISON);
        let offset = to.len();
        to.extend(bytes);
        View::dense(region, dtype, offset, rows, cols)
    }

    fn output(&mut self, dtype: DType, (rows, cols): (usize, usize)) -> View {
        self.tensor(Region::Arena, dtype, (rows, cols), &vec![POISON; rows * cols * dtype.size()])
    }
}
