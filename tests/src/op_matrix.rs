//! One test body, every backend: each kernel on random inputs against its f64 reference.
//!
//! A case is a descriptor, the bytes of both regions, and what each output may differ by. Its outputs are poisoned
//! first, its numbers come from a seed and its name: `DENOIR_SEED` sets the seed, `DENOIR_CASE` runs only the cases
//! whose name contains a word, `DENOIR_CASES` at most so many of a kernel's, spread over the table, and
//! `DENOIR_ROW` only the rows whose name contains one of these words, between commas. A word that fits nothing fails.

pub mod backends;
pub mod cases;
pub mod draw;
pub mod parts;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use denoir::AlignedBytes;
use denoir_core::cpu::Isa;
use denoir_core::ops::{Bounds, Epilogue, Linear, Memory, NormModulate, Op, QuantizeRows, Recorder};
use denoir_core::{DType, View};

use backends::Row;
use draw::{Draw, elements};

/// Failures that are spelled out; the rest are counted.
const SHOWN: usize = 8;

/// What an element may differ by: `abs + rel · |reference|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Absolute part.
    pub abs: f64,
    /// What is added to the absolute part where tensor cores add, which truncate what other devices round.
    pub truncation: f64,
    /// Relative part.
    pub rel: f64,
    /// int8: share of the elements that may be off by one; one element may be in any case unless this is 0.
    pub off_by_one: f64,
    /// Where these numbers come from.
    pub why: &'static str,
}

impl Tolerance {
    /// No difference.
    pub const fn exact(why: &'static str) -> Tolerance {
        Tolerance { abs: 0.0, truncation: 0.0, rel: 0.0, off_by_one: 0.0, why }
    }

    /// An f32 result.
    pub const fn close(abs: f64, rel: f64, why: &'static str) -> Tolerance {
        Tolerance { abs, truncation: 0.0, rel, off_by_one: 0.0, why }
    }

    /// The same where tensor cores add up `k` products of 16 bits and partial sums are near 1. They truncate each sum
    /// of eight products to an f32: by half a unit in the last place on average, always towards zero, where rounding goes
    /// either way (`add_block` in cuda/emulator/device.cpp).
    pub fn truncated_sums(self, k: usize) -> Tolerance {
        Tolerance { truncation: k.div_ceil(8) as f64 * (-24f64).exp2(), ..self }
    }

    /// The same result in the type in which a kernel passes it on.
    pub fn rounded_to(self, dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 => {
                Tolerance { abs: self.abs.max(6e-8), rel: 1.0 / 1024.0, why: "rounds to the other f16", ..self }
            }
            DType::BF16 => Tolerance { rel: 1.0 / 128.0, why: "rounds to the other bf16", ..self },
            DType::I8 => {
                Tolerance { off_by_one: 1e-3, why: "f32 values near a tie round to the other integer", ..self }
            }
            DType::F32 | DType::U32 => self,
        }
    }

    /// The same result's maximum over 127: an int8 row's scale.
    pub fn of_scale(self) -> Tolerance {
        Tolerance { abs: self.abs / 127.0, ..self }
    }
}

/// A view that the kernel writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Where.
    pub view: View,
    /// How well.
    pub tolerance: Tolerance,
}

/// A kernel with its arguments.
#[derive(Debug)]
pub struct Case {
    /// The descriptor.
    pub op: Op,
    /// The region of weights.
    pub weights: AlignedBytes,
    /// The arena before the kernel runs.
    pub arena: Vec<u8>,
    /// What the kernel writes.
    pub outputs: Vec<Output>,
    /// What it may overwrite with anything.
    pub scratch: Option<View>,
}

impl Case {
    /// The sizes of both regions.
    pub fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.as_slice().len(), arena: self.arena.len() }
    }

    /// Whether the kernel is in a form that only some backends have, as their precision says.
    pub fn optional(&self) -> bool {
        match self.op {
            Op::Linear(Linear { centre, epilogue, .. }) => {
                centre.is_some() || matches!(epilogue, Epilogue::Swiglu { .. })
            }
            Op::NormModulate(NormModulate { centre, .. }) => centre.is_some(),
            Op::QuantizeRows(QuantizeRows { centre, rotated, .. }) => centre.is_some() || rotated,
            _ => false,
        }
    }

    /// Whether this is a linear layer whose activations have rows that start at multiples of 16 bytes, as plans have them.
    pub fn aligned(&self) -> bool {
        match self.op {
            Op::Linear(Linear { x, .. }) => {
                x.offset.is_multiple_of(16) && (x.stride * x.dtype.size()).is_multiple_of(16)
            }
            _ => false,
        }
    }

    /// The arena after the reference ran.
    ///
    /// # Errors
    /// The descriptor's check, in words.
    pub fn reference(&self) -> Result<Vec<u8>, String> {
        let mut arena = self.arena.clone();
        let mut memory = Memory { weights: self.weights.as_slice(), arena: &mut arena };
        // SAFETY: the lengths of both slices.
        let mut recorder = unsafe { Recorder::new(&mut memory, self.bounds()) };
        self.op.record(&mut recorder).map_err(|e| e.to_string())?;
        Ok(arena)
    }

    /// The first byte outside the outputs that changed.
    fn untouched(&self, after: &[u8]) -> Result<(), String> {
        let mut after = after.to_vec();
        for view in self.outputs.iter().map(|o| &o.view).chain(&self.scratch) {
            for at in elements(view) {
                let bytes = at..at + view.dtype.size();
                after[bytes.clone()].copy_from_slice(&self.arena[bytes]);
            }
        }
        match after.iter().zip(&self.arena).position(|(a, b)| a != b) {
            Some(at) => Err(format!("byte {at} of the arena is not the kernel's, and changed")),
            None => Ok(()),
        }
    }

    /// Compares the outputs with the reference's, by the limits of tensor cores or of others; the largest difference of f32 results as a share of what is allowed.
    fn compare(&self, mut got: Vec<u8>, mut want: Vec<u8>, tensor_cores: bool) -> Result<f64, String> {
        self.untouched(&got)?;
        let mut worst = 0f64;
        for Output { view, tolerance } in &self.outputs {
            let got = Memory { weights: &[], arena: &mut got };
            let want = Memory { weights: &[], arena: &mut want };
            let (mut off_by_one, integers) = (0usize, view.dtype == DType::I8);
            let abs = tolerance.abs + if tensor_cores { tolerance.truncation } else { 0.0 };
            for r in 0..view.rows {
                for c in 0..view.cols {
                    let (got, want) = (got.load(view, r, c), want.load(view, r, c));
                    let difference = (got - want).abs();
                    let allowed = abs + tolerance.rel * want.abs();
                    if integers && difference == 1.0 && tolerance.off_by_one > 0.0 {
                        off_by_one += 1;
                    } else if !got.is_finite() || !want.is_finite() || difference > if integers { 0.0 } else { allowed }
                    {
                        let why = tolerance.why;
                        return Err(format!("({r}, {c}) is {got:e}, not {want:e} ± {allowed:.1e} ({why})"));
                    } else if view.dtype == DType::F32 && difference > 0.0 {
                        worst = worst.max(difference / allowed);
                    }
                }
            }
            let elements = (view.rows * view.cols) as f64;
            if off_by_one > 0 && off_by_one as f64 > 1.0 + tolerance.off_by_one * elements {
                return Err(format!("{off_by_one} of {elements} integers are off by one"));
            }
        }
        Ok(worst)
    }
}

/// A case that is yet to be drawn.
pub struct Plan {
    name: String,
    draw: Box<dyn Fn(Draw) -> Case>,
}

impl Plan {
    fn draw(&self, seed: u64) -> Case {
        (self.draw)(Draw::new(seed ^ hash(&self.name)))
    }
}

/// The cases of a kernel.
#[derive(Default)]
pub struct Table(Vec<Plan>);

impl Table {
    /// Adds a case; names are different.
    pub fn add(&mut self, name: String, draw: impl Fn(Draw) -> Case + 'static) {
        self.0.push(Plan { name, draw: Box::new(draw) });
    }
}

/// Up to `count` cases of a kernel, spread over its table, for tests of something else.
pub fn drawn(kernel: &str, count: usize) -> Vec<Case> {
    spread(kernel, count, base_seed())
}

fn spread(kernel: &str, count: usize, seed: u64) -> Vec<Case> {
    let plans = cases::of(kernel).0;
    let every = plans.len().div_ceil(count).max(1);
    plans.iter().step_by(every).map(|plan| plan.draw(seed)).collect()
}

/// The hash of everything that a kernel of the scalar instruction set writes in up to `count` cases, whatever
/// `DENOIR_SEED` and `DENOIR_ROW` are.
///
/// # Panics
/// Where a case fails.
pub fn scalar_hash(kernel: &str, count: usize) -> u64 {
    let rows = backends::cpu(Isa::SCALAR);
    let mut hash = FNV_START;
    for case in spread(kernel, count, SEED) {
        for run in rows.iter().filter_map(|row| row.runs(kernel)) {
            let after = run(&case).unwrap_or_else(|e| panic!("{kernel}: {e}"));
            for Output { view, .. } in &case.outputs {
                hash = elements(view).fold(hash, |hash, at| fnv(hash, &after[at..at + view.dtype.size()]));
            }
        }
    }
    hash
}

/// Runs every case of a kernel on every row and prints the worst differences.
///
/// # Panics
/// Where a case fails, or none ran.
pub fn run(kernel: &str) {
    let (seed, start, rows) = (base_seed(), Instant::now(), backends::rows());
    let only = std::env::var("DENOIR_CASE").unwrap_or_default();
    let most =
        std::env::var("DENOIR_CASES").map_or(NonZeroUsize::MAX, |n| n.parse().expect("DENOIR_CASES counts from 1"));
    let (mut ran, mut failed, mut worst) = (0usize, Vec::new(), Worst::new());
    let plans: Vec<Plan> = cases::of(kernel).0.into_iter().filter(|plan| plan.name.contains(&only)).collect();
    for plan in plans.iter().step_by(plans.len().div_ceil(most.get()).max(1)) {
        let failures = run_case(&plan.name, &plan.draw(seed), &rows, &mut worst);
        failed.extend(failures.into_iter().map(|what| format!("{kernel}: {}: {what}", plan.name)));
        ran += 1;
    }
    println!("{kernel}: {ran} cases in {:.1} s, seed {seed:#x}", start.elapsed().as_secs_f64());
    for (row, (share, name)) in rows.iter().filter_map(|row| Some((&row.name, worst.get(&row.name)?))) {
        println!("{kernel}: {row}: at most {:.0}% of what is allowed ({name})", share * 100.0);
    }
    assert!(ran > 0, "{kernel}: no case ran; DENOIR_CASE={only:?} is in no name");
    let shown = failed.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} failures in {ran} cases; DENOIR_SEED={seed:#x}\n{shown}", failed.len());
}

/// What is wrong with a case on these rows.
pub fn failures(case: &Case, rows: &[Row]) -> Vec<String> {
    run_case("", case, rows, &mut Worst::new())
}

/// By row: the largest difference as a share of what is allowed, and its case.
type Worst = HashMap<String, (f64, String)>;

fn run_case(name: &str, case: &Case, rows: &[Row], worst: &mut Worst) -> Vec<String> {
    let want = match case.reference() {
        Ok(want) => want,
        Err(e) => return vec![format!("reference: {e}")],
    };
    let mut failures = Vec::new();
    if let Err(e) = case.compare(want.clone(), want.clone(), false) {
        failures.push(format!("reference: {e}"));
    }
    let mut first: HashMap<&str, (&str, Vec<u8>)> = HashMap::new();
    let rows = rows.iter().filter(|row| row.every_form || !case.optional());
    let rows = rows.filter(|row| !row.aligned || case.aligned());
    for (row, run) in rows.filter_map(|row| Some((row, row.runs(case.op.name())?))) {
        let result = run(case).and_then(|got| {
            let share = case.compare(got.clone(), want.clone(), row.tensor_cores)?;
            let entry = worst.entry(row.name.clone()).or_insert_with(|| (share, name.to_owned()));
            if share > entry.0 {
                *entry = (share, name.to_owned());
            }
            let (twin, bytes) = first.entry(&row.same_bytes).or_insert_with(|| (&row.name, got.clone()));
            if *bytes == got { Ok(()) } else { Err(format!("other bytes than on {twin}")) }
        });
        failures.extend(result.err().map(|e| format!("{}: {e}", row.name)));
    }
    failures
}

/// The seed of the fixed runs.
const SEED: u64 = 0xD3_2017;

/// `DENOIR_SEED`, decimal or 0x, or the one that the fixed runs use.
///
/// # Panics
/// Where it is no number.
pub fn base_seed() -> u64 {
    let Ok(text) = std::env::var("DENOIR_SEED") else { return SEED };
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|_| panic!("DENOIR_SEED is no number: {text}"))
}

/// FNV-1a, so that a case's numbers do not depend on its place in the table.
pub fn hash(name: &str) -> u64 {
    fnv(FNV_START, name.as_bytes())
}

const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}
