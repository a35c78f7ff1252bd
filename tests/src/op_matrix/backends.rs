//! The rows of the matrix: one for each way to run the kernels.

use core::fmt::Debug;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io::Write;
use std::sync::{Arc, Once};

use denoir_core::backend::{self, Backend, Program};
use denoir_core::cpu::{Cpu, Isa, pack, packed_bytes};
use denoir_core::ops::{Epilogue, Op};
use denoir_core::{DType, Executor, Precision, Region, View};
use denoir_cuda::{Gpu, LinearTile};
use denoir_vulkan::Tier;

use super::case::{Case, Sums};
use super::guarded::{Block, Edge};
use super::seed::hash;

/// Runs a case and returns the arena as it is then.
pub type Run = Box<dyn Fn(&Case) -> Result<Vec<u8>, String> + Sync>;

/// A way to run the kernels.
pub struct Row {
    /// Its name in failures and summaries.
    pub name: String,
    /// Rows of the same word give the same bytes.
    pub same_bytes: String,
    /// The kernels that run differently here; `None`: all do.
    pub only: Option<&'static [&'static str]>,
    /// Whether it runs only linear layers with aligned rows.
    pub aligned: bool,
    /// How 16-bit products are added up.
    pub sums: Sums,
    /// The forms of kernels that it has.
    pub forms: Precision,
    /// How to run it, or why it cannot be run here.
    pub run: Result<Run, String>,
}

impl Row {
    /// A row that runs every kernel, in the forms that all backends have, and whose bytes are compared with no other
    /// row.
    pub fn new(name: String, run: Result<Run, String>) -> Row {
        let same_bytes = name.clone();
        Row { name, same_bytes, only: None, aligned: false, sums: Sums::Rounded, forms: Precision::WIDE, run }
    }

    /// How to run the kernel, where it can be run here and is not the same on another row.
    pub fn runs(&self, kernel: &str) -> Option<&Run> {
        self.run.as_ref().ok().filter(|_| self.only.is_none_or(|only| only.contains(&kernel)))
    }
}

/// Every row that is asked for. A new backend adds its own: open a device, then [`drive`] it.
///
/// # Panics
/// Where `DENOIR_ROW` has a word that is in no name, or `DENOIR_REQUIRE` names a row that cannot run.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Isa::available().flat_map(cpu).collect();
    let missing = Isa::NAMES.iter().filter(|name| Isa::from_name(name).is_none());
    rows.extend(missing.map(|name| absent(name, "this machine lacks the instructions")));
    rows.extend(Tier::ALL.into_iter().filter(|tier| asked_for(&format!("vulkan/{tier}"))).map(vulkan));
    let tiles = LinearTile::ALL.map(|tile| format!("emulated-cuda/{}", tile.name()));
    if asked_for("emulated-cuda/reversed") || tiles.iter().any(|name| asked_for(name)) {
        rows.extend(cuda());
    }
    rows.retain(|row| asked_for(&row.name));
    let words = std::env::var("DENOIR_ROW").unwrap_or_default();
    for word in words.split(',') {
        let like = "such as scalar/1, avx2+packed/3, vulkan/floor or emulated-cuda";
        assert!(
            rows.iter().any(|row| row.name.contains(word)),
            "DENOIR_ROW: {word:?} is in the name of no row, {like}"
        );
    }
    announce(&rows);
    rows
}

/// Returns whether `DENOIR_ROW` is absent or one of its words, between commas, is part of a row's name.
pub fn asked_for(name: &str) -> bool {
    std::env::var("DENOIR_ROW").map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

fn absent(name: &str, why: &str) -> Row {
    Row::new(name.into(), Err(why.into()))
}

/// One CPU instruction set, on one thread and on three, with weights from the file and packed: the same bytes. Programs
/// that read each weight once sum in an order of their own, packed or not.
pub(super) fn cpu(isa: Isa) -> [Row; 6] {
    let (pass, once) = (Program::replayed("op", [0; 2]), Program::once("op", [0; 2]));
    let rows =
        [(1, false, pass), (3, false, pass), (1, true, pass), (3, true, pass), (1, false, once), (3, true, once)];
    rows.map(|(threads, packed, program)| {
        let is_once = program == once;
        let same_bytes = if is_once { format!("{}+once", isa.name()) } else { isa.name().to_owned() };
        let name = format!("{same_bytes}{}/{threads}", if packed { "+packed" } else { "" });
        let way = OnCpu { row: name.clone(), isa, threads: Threads(threads), packed, program };
        let run: Run = Box::new(move |case| way.run(case));
        let only: Option<&[&str]> = (packed || is_once).then_some(&["linear"]);
        Row { same_bytes, only, forms: isa.precision(), ..Row::new(name, Ok(run)) }
    })
}

/// One tier of the first Vulkan device, with the validation layers on.
fn vulkan(tier: Tier) -> Row {
    let name = format!("vulkan/{tier}");
    let gpu = match crate::vulkan::gpu(tier) {
        Ok(gpu) => gpu,
        Err(e) => return absent(&name, &e.to_string()),
    };
    let run: Run = Box::new(move |case| {
        let weights = Arc::new(case.weights.as_slice().to_vec());
        let engine = gpu.backend(weights, case.arena.len());
        let after = drive(&mut engine.map_err(|e| e.to_string())?, case)?;
        crate::vulkan::quiet().map(|()| after)
    });
    // The tiers differ in these kernels alone.
    let only: Option<&[&str]> = match tier {
        Tier::Floor => None,
        Tier::Fp16 | Tier::Int8 => Some(&["linear"]),
        Tier::Matrix => Some(&["linear", "attention"]),
    };
    let sums = match tier {
        // On NVIDIA's devices they run on tensor cores.
        Tier::Matrix => Sums::Truncated,
        _ if gpu.precision().bf16 == DType::BF16 => Sums::Packed,
        _ => Sums::Rounded,
    };
    Row { only, sums, forms: gpu.precision(), ..Row::new(name, Ok(run)) }
}

/// The first CUDA device: a row with the tiles that the backend chooses, and one for each tile. All give the same
/// bytes. An emulated device has another name, because it does not satisfy `DENOIR_REQUIRE=cuda`. It also runs the
/// threads of a block in reverse order, which changes the bytes if there is a race.
fn cuda() -> Vec<Row> {
    let gpu = match crate::cuda::gpu() {
        Ok(gpu) => gpu,
        Err(e) => return vec![absent("cuda", &e.to_string())],
    };
    let row = |name: String, gpu: Gpu, reversed| {
        let forms = gpu.precision();
        let run: Run = Box::new(move |case| on_cuda(&gpu, case, reversed));
        Row { same_bytes: "cuda".into(), sums: Sums::Truncated, forms, ..Row::new(name, Ok(run)) }
    };
    let (mut rows, name) = match crate::cuda::is_emulated() {
        true => (vec![absent("cuda", "this machine has no CUDA driver")], "emulated-cuda"),
        false => (Vec::new(), "cuda"),
    };
    rows.push(row(name.into(), gpu.clone(), false));
    if crate::cuda::is_emulated() {
        rows.push(row(format!("{name}/reversed"), gpu.clone(), true));
    }
    for tile in LinearTile::ALL {
        let row = row(format!("{name}/{}", tile.name()), gpu.with_tile(tile), false);
        rows.push(Row { only: Some(&["linear"]), aligned: true, ..row });
    }
    rows
}

fn on_cuda(gpu: &Gpu, case: &Case, reversed: bool) -> Result<Vec<u8>, String> {
    crate::cuda::reverse(reversed);
    let weights = Arc::new(case.weights.as_slice().to_vec());
    let after = gpu.backend(weights, case.arena.len()).map_err(|e| e.to_string()).and_then(|mut e| drive(&mut e, case));
    crate::cuda::reverse(false);
    after
}

/// A way to run kernels on the CPU.
struct OnCpu {
    row: String,
    isa: Isa,
    threads: Threads,
    packed: bool,
    program: Program,
}

impl OnCpu {
    /// Runs a case with a forbidden page after each of its views; on three threads, every second case has one before
    /// them instead.
    fn run(&self, case: &Case) -> Result<Vec<u8>, String> {
        let before = self.threads.0 > 1 && hash(&case.name).is_multiple_of(2);
        let edge = if before { Edge::Start } else { Edge::End };
        let label = format!("{}: {}: {}", case.op.name(), self.row, case.name);
        case.run_guarded(edge, &label, |weights, arena, op| {
            let (mut packed, mut scratch) = (self.packed_weights(op, weights, &label), self.scratch(op, &label));
            let mut cpu = Cpu::new(weights, arena, &self.threads, self.isa).expect("aligned");
            if let Some(packed) = &mut packed {
                cpu = cpu.with_packed(packed.as_mut_slice());
            }
            if let Some(scratch) = &mut scratch {
                cpu = cpu.with_scratch(scratch.as_mut_slice());
            }
            backend::run(&mut cpu, self.program, |k| k.op(op)).map_err(|e| format!("{e:?}"))
        })
    }

    fn packed_weights(&self, op: &Op, file: &[u8], label: &str) -> Option<Block> {
        let (true, Op::Linear(op)) = (self.packed, op) else { return None };
        let gate = match op.epilogue {
            Epilogue::Swiglu { gate, .. } => Some(gate),
            _ => None,
        };
        let weights = [Some(op.w), gate].into_iter().flatten();
        let mut region = Block::new(packed_bytes(weights.clone(), self.isa).expect("an address"), label);
        let mut packed = 0;
        pack(file, weights.clone(), self.isa, region.as_mut_slice(), &self.threads, &mut |_| packed += 1);
        let matrices = weights.map(|weight| 1 + usize::from(weight.residual.is_some())).sum::<usize>();
        assert_eq!(packed, matrices, "weights left out");
        Some(region)
    }

    /// What the kernel works in, on one thread; on three it works on their stacks.
    fn scratch(&self, op: &Op, label: &str) -> Option<Block> {
        let bytes = self.isa.scratch_bytes_of(op, 1);
        (bytes > 0 && self.threads.0 == 1).then(|| Block::new(bytes, label))
    }
}

/// Runs a case on a backend that was opened over the case's weights and an arena of its size.
///
/// # Errors
/// The backend's, or a descriptor's check, in words.
pub fn drive<B: Backend>(backend: &mut B, case: &Case) -> Result<Vec<u8>, String>
where
    B::Error: Debug,
{
    let all = View::dense(Region::Arena, DType::I8, 0, 1, case.arena.len());
    backend.write(&all, &case.arena).map_err(|e| format!("{e:?}"))?;
    backend::run(backend, Program::replayed("op", [0; 2]), |k| k.op(&case.op)).map_err(|e| format!("{e:?}"))?;
    let mut after = vec![0; case.arena.len()];
    backend.read(&all, &mut after).map_err(|e| format!("{e:?}"))?;
    Ok(after)
}

/// Prints once what is skipped, bypassing the test harness's capture.
///
/// # Panics
/// Where `DENOIR_REQUIRE`, words between commas, names a row that cannot run.
fn announce(rows: &[Row]) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (row, why) in rows.iter().filter_map(|row| Some((row, row.run.as_ref().err()?))) {
            // A line that is not written harms no test.
            let _ = writeln!(std::io::stderr(), "skipped: kernels on {}: {why}", row.name);
        }
    });
    let required = std::env::var("DENOIR_REQUIRE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        let here =
            rows.iter().any(|row| row.run.is_ok() && (row.name == name || row.name.starts_with(&format!("{name}/"))));
        assert!(here, "DENOIR_REQUIRE asks for {name}, which does not run here");
    }
}

/// Runs each kernel on this many threads, which take the tasks from last to first.
struct Threads(usize);

// SAFETY: the count goes down by one for each task, and the scope ends when all threads have.
unsafe impl Executor for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let left = AtomicUsize::new(tasks);
        let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
        let work = || {
            while let Some(n) = next() {
                task(n - 1);
            }
        };
        std::thread::scope(|scope| {
            (1..self.0.min(tasks)).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
}
