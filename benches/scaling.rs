//! What more threads would give: `scaling [--isa NAME] [--shape SHAPE] [--type T] [--batch N]`.
//!
//! One core runs an evaluation, cut into the tiles that so many threads would get, and each tile is timed. The tiles are
//! then dealt out as the pool does: each to whoever is free first. A launch also costs the pool something, which two
//! threads are timed for here; each further thread enters and leaves it by two more atomic operations on one cache line.
//! Memory is as fast as for one thread, and caches are as large: the figures are a limit, not a promise.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use denoir::{AlignedBytes, AnyNetwork, Isa, Model, Pool};
use denoir_convert::random::{RandomModel, Shape};
use denoir_core::cpu::{Cpu, pack, packed_bytes};
use denoir_core::jit::JitModel;
use denoir_core::network::{Network, Plan};
use denoir_core::{DType, Denoiser, Executor, Weight};

const THREADS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 96];
/// An atomic operation on a line that another core has just written: 50 to 100 ns on servers with one or two sockets.
const CONTENDED: f64 = 75e-9;
/// Evaluations, of which the best of each launch counts.
const RUNS: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let isa =
        value("--isa").map_or(Ok(Isa::detect()), |name| Isa::from_name(name).context("no such instruction set"))?;
    let shape = Shape::from_name(value("--shape").map_or("jit-b16", String::as_str)).context("no such shape")?;
    let types = [DType::F32, DType::F16, DType::BF16, DType::I8];
    let name = value("--type").map_or("int8", String::as_str);
    let dtype = types.into_iter().find(|t| t.name() == name).context("no such type")?;
    let batch = value("--batch").map_or(Ok(1), |n| n.parse::<usize>())?;

    let random = RandomModel::new(shape, dtype)?;
    let mut file = AlignedBytes::zeroed(usize::try_from(random.len_bytes())?)?;
    random.write(1, &mut std::io::Cursor::new(file.as_mut_slice()))?;
    let model = Model::from_bytes(file)?;
    let AnyNetwork::Jit(network) = model.network() else { bail!("a network with classes") };
    let weights: Vec<Weight> = network.matrices().collect();
    let mut packed = AlignedBytes::zeroed(packed_bytes(weights.iter().copied(), isa).context("a size")?)?;
    pack(model.bytes(), weights.iter().copied(), isa, packed.as_mut_slice(), &Pool::new(2)?, &mut |_| ());

    let two = Pool::new(2)?;
    let launch = launch_seconds(&two);
    println!(
        "{} {name}, batch {batch}, {}: a launch costs two threads {:.2} µs",
        shape.name(),
        isa.name(),
        launch * 1e6
    );
    let evaluation = Evaluation { network, file: model.bytes(), packed: packed.as_slice(), isa, batch };
    let seconds = evaluation.run(&two, RUNS)?;
    println!("measured with two threads: {:.1} ms", seconds * 1e3);
    println!("\n| threads | launches | tiles | ms | speed | launches' cost |\n|---|---|---|---|---|---|");
    let mut alone = 0.0;
    for threads in THREADS {
        let recorder = Recorder::new(threads);
        evaluation.run(&recorder, RUNS)?;
        let launches = recorder.best();
        let per_launch = if threads == 1 { 0.0 } else { launch + 2.0 * CONTENDED * (threads - 2) as f64 };
        let work: f64 = launches.iter().map(|tiles| dealt(tiles, threads)).sum();
        let cost = launches.iter().filter(|tiles| tiles.len() > 1).count() as f64 * per_launch;
        if threads == 1 {
            alone = work;
        }
        println!(
            "| {threads} | {} | {} | {:.1} | {:.1}× | {:.0}% |",
            launches.len(),
            launches.iter().map(Vec::len).sum::<usize>(),
            (work + cost) * 1e3,
            alone / (work + cost),
            100.0 * cost / (work + cost)
        );
    }
    Ok(())
}

/// What a launch without work takes.
fn launch_seconds(pool: &Pool) -> f64 {
    const LAUNCHES: u32 = 20_000;
    let start = Instant::now();
    (0..LAUNCHES).for_each(|_| pool.run(2, &|_| ()));
    start.elapsed().as_secs_f64() / f64::from(LAUNCHES)
}

/// Seconds until the last of the tiles is done, if each goes to the thread that is free first.
fn dealt(tiles: &[Duration], threads: usize) -> f64 {
    let mut free = vec![0.0; threads];
    for tile in tiles {
        let first = free.iter_mut().min_by(|a, b| f64::total_cmp(a, b)).expect("a thread");
        *first += tile.as_secs_f64();
    }
    free.into_iter().fold(0.0, f64::max)
}

/// A network on the processor.
struct Evaluation<'m> {
    network: &'m JitModel,
    file: &'m [u8],
    packed: &'m [u8],
    isa: Isa,
    batch: usize,
}

impl Evaluation<'_> {
    /// The best time of some evaluations.
    fn run(&self, executor: &dyn Executor, runs: usize) -> anyhow::Result<f64> {
        let plan = self.network.plan(self.batch, self.isa.precision())?;
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes())?;
        let mut scratch =
            AlignedBytes::zeroed(self.isa.scratch_bytes(plan.head_dim(), plan.int8(), executor.threads()))?;
        let cpu = Cpu::new(self.file, arena.as_mut_slice(), executor, self.isa).map_err(|e| anyhow!("{e}"))?;
        let cpu = cpu.with_packed(self.packed).with_scratch(scratch.as_mut_slice());
        let mut denoiser = Denoiser::new(self.network, plan, cpu).map_err(|e| anyhow!("{e}"))?;
        let labels = vec![0; self.batch];
        let mut prepared = denoiser.prepare(0.5, &labels[..]).map_err(|e| anyhow!("{e}"))?;
        let x = vec![0.5; self.batch * self.network.pixels()];
        let mut x_hat = x.clone();
        let mut best = f64::INFINITY;
        for _ in 0..=runs {
            executor.run(0, &|_| ());
            let start = Instant::now();
            prepared.predict(&x, &mut x_hat).map_err(|e| anyhow!("{e}"))?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}

/// Runs everything on the calling thread and notes how long each tile takes. A launch of no tiles begins a new run.
struct Recorder {
    threads: usize,
    runs: Mutex<Vec<Vec<Vec<Duration>>>>,
}

impl Recorder {
    fn new(threads: usize) -> Recorder {
        Recorder { threads, runs: Mutex::new(vec![Vec::new()]) }
    }

    /// The launches of an evaluation, each as it was in the run in which it took least; what came before, and the first
    /// run, do not count.
    fn best(&self) -> Vec<Vec<Duration>> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = &runs[2..];
        let total = |tiles: &&Vec<Duration>| tiles.iter().sum::<Duration>();
        (0..runs[0].len()).filter_map(|i| runs.iter().map(|run| &run[i]).min_by_key(total).cloned()).collect()
    }
}

// SAFETY: a loop over the numbers, on the calling thread.
unsafe impl Executor for Recorder {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let mut tiles = Vec::with_capacity(tasks);
        for i in 0..tasks {
            let start = Instant::now();
            task(i);
            tiles.push(start.elapsed());
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks {
            0 => runs.push(Vec::new()),
            _ => runs.last_mut().expect("one run").push(tiles),
        }
    }
}
