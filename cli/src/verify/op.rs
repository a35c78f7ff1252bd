//! `op`: compares single kernels.

use denoir::AlignedBytes;
use denoir::core::backend::{Program, run};
use denoir::core::cpu::Cpu;
use denoir::core::ops::Op;
use denoir::core::{DType, Region, View};

use super::fixture::{Fixture, Tensor};
use super::models::Models;
use super::outcome::{Check, Verdict};
use crate::error::Error;

mod kernels;

/// Operations that the engine computes on the host; the goldens of whole networks cover them.
const NO_KERNEL: &str = "timestep_embed";
/// Alignment of a tensor's start in its region.
const ALIGN: usize = 256;
/// The contents of outputs before a kernel runs: NaN in every float type.
const POISON: u8 = 0xff;

pub(super) fn verify(fixture: &Fixture, models: &Models) -> Result<Verdict, Error> {
    let kernel = fixture.parameter("op")?;
    if kernel == NO_KERNEL {
        return Ok(Verdict::Skipped("the engine has no such kernel: the host computes it"));
    }
    let limit = fixture.number("limit")?;
    let mut checks = Vec::new();
    for name in fixture.parameter("cases")?.split(',') {
        let mut case = Case::new(fixture, name);
        let (op, outputs) = kernels::kernel(&mut case, kernel)?;
        let arena = case.run(&op, models)?;
        for (field, view) in outputs {
            let want = fixture.tensor(&format!("{name}.want.{field}"))?;
            let got = read(&arena, &view);
            let name = format!("{name}.{field}");
            checks.push(match want.dtype {
                DType::F32 => Check::relative(name, &floats(&got), &want.f32(), limit),
                _ => Check::equal(name, &got, &want.bytes),
            });
        }
    }
    Ok(Verdict::Checked(checks))
}

/// One case of a kernel: its tensors in the two regions.
struct Case<'f> {
    fixture: &'f Fixture,
    name: &'f str,
    weights: Vec<u8>,
    arena: Vec<u8>,
}

impl<'f> Case<'f> {
    fn new(fixture: &'f Fixture, name: &'f str) -> Case<'f> {
        Case { fixture, name, weights: Vec::new(), arena: Vec::new() }
    }

    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.name)
    }

    fn place(&mut self, region: Region, tensor: &Tensor, bytes: &[u8]) -> View {
        let to = match region {
            Region::Weights => &mut self.weights,
            _ => &mut self.arena,
        };
        to.resize(to.len().next_multiple_of(ALIGN), POISON);
        let offset = to.len();
        to.extend(bytes);
        let (rows, cols) = tensor.matrix();
        View::dense(region, tensor.dtype, offset, rows, cols)
    }

    /// A field as a matrix.
    fn view(&mut self, region: Region, field: &str) -> Result<View, Error> {
        let tensor = self.fixture.tensor(&self.key(field))?;
        Ok(self.place(region, tensor, &tensor.bytes))
    }

    fn x(&mut self, field: &str) -> Result<View, Error> {
        self.view(Region::Arena, field)
    }

    fn w(&mut self, field: &str) -> Result<View, Error> {
        self.view(Region::Weights, field)
    }

    fn optional(&mut self, region: Region, field: &str) -> Result<Option<View>, Error> {
        let there = self.fixture.has(&self.key(field));
        there.then(|| self.view(region, field)).transpose()
    }

    /// A poisoned output with the shape of the wanted one.
    fn out(&mut self, field: &str) -> Result<View, Error> {
        let like = self.fixture.tensor(&self.key(&format!("want.{field}")))?;
        Ok(self.place(Region::Arena, like, &vec![POISON; like.bytes.len()]))
    }

    fn run(&self, op: &Op, models: &Models) -> Result<Vec<u8>, Error> {
        let weights = AlignedBytes::copied(&self.weights)?;
        let mut arena = AlignedBytes::copied(&self.arena)?;
        let pool = models.pool()?;
        let cpu = Cpu::new(weights.as_slice(), arena.as_mut_slice(), &pool, models.isa);
        let mut cpu = cpu.map_err(|e| self.fixture.error(&e.to_string()))?;
        let program = Program::once("op", [0; 2]);
        run(&mut cpu, program, |k| k.op(op)).map_err(|e| self.fixture.error(&format!("{}: {e}", self.name)))?;
        Ok(arena.as_slice().to_vec())
    }
}

/// The bytes of a view's elements.
fn read(arena: &[u8], view: &View) -> Vec<u8> {
    let size = view.dtype.size();
    let row = |r: usize| {
        let start = view.offset + r * view.stride * size;
        arena[start..start + view.cols * size].iter().copied()
    };
    (0..view.rows).flat_map(row).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}
