//! Two pipelines on one model draw at the same time, each with threads of its own, and some of their jobs are stopped
//! on the way. Every image that is finished must be the one that a single thread draws, byte for byte.
//!
//! ```text
//! stress MODEL.gguf SECONDS THREADS [LEVEL,...]
//! ```
//!
//! The time is divided among the instruction sets, all of the machine's by default. `cargo xtask sanitize` runs this
//! under sanitizers.

use std::collections::HashMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use denoir::core::RunError;
use denoir::{BackendKind, Condition, Isa, Model, Options, Pipeline, Request};

/// Jobs that a pipeline runs before another takes its place: its threads must end while the other pipeline draws.
const JOBS: u64 = 20;
const SEEDS: u64 = 3;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("stress: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "stress MODEL.gguf SECONDS THREADS [LEVEL,...]";
    let (path, seconds, threads) = match args.as_slice() {
        [path, seconds, threads, ..] => (path, seconds.parse::<f64>()?, threads.parse()?),
        _ => return Err(usage.into()),
    };
    let levels: Vec<Isa> = match args.get(3) {
        None => Isa::available().collect(),
        Some(names) => {
            let level = |name| Isa::from_name(name).ok_or_else(|| format!("this machine has no {name}"));
            names.split(',').map(level).collect::<Result<_, _>>()?
        }
    };
    let model = Arc::new(Model::open(path)?);
    let time = Duration::from_secs_f64(seconds / levels.len() as f64);
    for isa in levels {
        let level =
            Level { model: model.clone(), isa, threads, known: known(&model, isa)?, end: Instant::now() + time };
        let counts = Counts::default();
        level.stress(&counts)?;
        let [drawn, stopped] = [&counts.drawn, &counts.stopped].map(|count| count.load(Ordering::Relaxed));
        println!("stress: {}: {drawn} images drawn, each the same; {stopped} jobs stopped", isa.name());
        if drawn == 0 || stopped == 0 {
            return Err(format!("{}: too little time to draw an image and stop a job", isa.name()).into());
        }
    }
    Ok(())
}

/// What a job asks for: the seed, and the label of both its images.
type Job = (u64, u32);

/// The images of every job, drawn on one thread.
fn known(model: &Arc<Model>, isa: Isa) -> Result<HashMap<Job, Vec<f32>>, Failure> {
    let mut pipeline = Pipeline::new(model.clone(), &options(isa, 1))?;
    let mut known = HashMap::new();
    for job in (0..SEEDS).flat_map(|seed| [0, 1].map(|label| (seed, label))) {
        known.insert(job, draw(&mut pipeline, job, &mut || ControlFlow::Continue(()))?.ok_or("nobody stopped it")?);
    }
    Ok(known)
}

fn options(isa: Isa, threads: usize) -> Options {
    let (backend, threads) = (BackendKind::Cpu, Some(threads));
    Options { backend, threads, isa: Some(isa), batch: Some(2), ..Options::default() }
}

/// The images of a job, one after another; `None` if it was stopped.
fn draw(
    pipeline: &mut Pipeline,
    (seed, label): Job,
    stop: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Vec<f32>>, Failure> {
    let model = pipeline.model().clone();
    let labels = [label; 2];
    let mut request = Request { seed, ..Request::preset(&model, Condition::Labels(&labels)) };
    request.settings.steps = 4;
    request.settings.cfg_scale = 2.0;
    match pipeline.generate(&request, &mut |_| stop()) {
        Ok(images) => Ok(Some(images.into_iter().flat_map(|image| image.sample).collect())),
        Err(denoir::Error::Run(RunError::Cancelled)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

struct Level {
    model: Arc<Model>,
    isa: Isa,
    threads: usize,
    known: HashMap<Job, Vec<f32>>,
    end: Instant,
}

#[derive(Default)]
struct Counts {
    drawn: AtomicU64,
    stopped: AtomicU64,
}

impl Level {
    /// Draws with two pipelines until the time is over.
    fn stress(&self, counts: &Counts) -> Result<(), Failure> {
        std::thread::scope(|scope| {
            let pipelines = [1, 2].map(|seed| scope.spawn(move || self.draw_all(seed, counts)));
            pipelines.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    fn draw_all(&self, seed: u64, counts: &Counts) -> Result<(), Failure> {
        let stop = AtomicBool::new(false);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Another thread stops jobs at any time, as signal handlers and user interfaces do.
            scope.spawn(|| {
                let mut numbers = Numbers(seed + 100);
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(200 + numbers.below(20_000)));
                    stop.store(true, Ordering::Relaxed);
                }
            });
            let result = self.draw_until_stopped(&mut Numbers(seed), &stop, counts);
            over.store(true, Ordering::Relaxed);
            result
        })
    }

    fn draw_until_stopped(&self, numbers: &mut Numbers, stop: &AtomicBool, counts: &Counts) -> Result<(), Failure> {
        while Instant::now() < self.end {
            let mut pipeline = Pipeline::new(self.model.clone(), &options(self.isa, self.threads))?;
            for _ in 0..JOBS {
                let job = (numbers.below(SEEDS), numbers.below(2) as u32);
                // Two of three jobs go on to their end, whoever wants them to stop.
                let stays = numbers.below(3) > 0;
                let images = draw(&mut pipeline, job, &mut || {
                    if !stays && stop.swap(false, Ordering::Relaxed) {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                })?;
                match images {
                    Some(images) if same(&images, &self.known[&job]) => counts.drawn.fetch_add(2, Ordering::Relaxed),
                    Some(_) => return Err(format!("{}: job {job:?} drew other images", self.isa.name()).into()),
                    None => counts.stopped.fetch_add(1, Ordering::Relaxed),
                };
                if Instant::now() >= self.end {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}
