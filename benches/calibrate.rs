//! Shows the state of the machine between the rounds of a comparison (`benches/peers`). `calibrate` prints the
//! instruction sets of the machine, and then the one that is taken. `calibrate THREADS ISA TYPE` answers each line on standard input
//! with GFLOP/s of all threads together: `product` for about 50 ms of a fixed linear layer, whose weights each thread has
//! in memory of its own; `peak` for the multipliers alone, or 0 where the level has no loop for the type.

use std::io::Write;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use denoir::Isa;
use denoir_benches::{Layer, Stage};
use denoir_core::DType;

/// Rows, columns and depth: PixelGen-XL's last layer of a block, whose weights no second-level cache holds in f32.
const SHAPE: [usize; 3] = [288, 1152, 3072];
const LENGTH: Duration = Duration::from_millis(50);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [threads, isa, dtype] = arguments.as_slice() else {
        if !arguments.is_empty() {
            bail!("calibrate [THREADS ISA TYPE]");
        }
        Isa::available().chain([Isa::detect()]).for_each(|isa| println!("{}", isa.name()));
        return Ok(());
    };
    let isa = Isa::from_name(isa).context("no such instruction set")?;
    let types = [DType::F32, DType::F16, DType::BF16, DType::I8];
    let dtype = types.into_iter().find(|t| t.name() == dtype).context("no such type")?;
    let mut threads: Vec<Thread> = (0..threads.parse::<usize>()?).map(|_| Thread::new(isa, dtype)).collect();
    // Once to touch the memory, once to see how often it fits.
    gflops(&mut threads, |thread| thread.product());
    let start = Instant::now();
    threads.first_mut().context("no thread")?.product();
    let times = (LENGTH.as_secs_f64() / start.elapsed().as_secs_f64()).ceil() as u64;
    threads.iter_mut().for_each(|thread| thread.times = times);
    let mut out = std::io::stdout();
    let _ = writeln!(out, "ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let answer = match line.trim() {
            "product" => gflops(&mut threads, |thread| thread.product()),
            _ => gflops(&mut threads, |_| isa.spin(dtype).unwrap_or(0.0) / 1e9),
        };
        let _ = writeln!(out, "{answer}");
    }
    Ok(())
}

/// What one thread multiplies, and how often.
struct Thread {
    stage: Stage,
    times: u64,
}

impl Thread {
    fn new(isa: Isa, dtype: DType) -> Thread {
        Thread { stage: Stage::linear(isa, dtype, Layer::Plain, SHAPE), times: 1 }
    }

    /// Returns billions of operations.
    fn product(&mut self) -> f64 {
        self.stage.run(self.times);
        self.stage.flop * self.times as f64 / 1e9
    }
}

/// Runs `work` on all threads at once, each on a thread of the system, and adds up what they did a second.
fn gflops(threads: &mut [Thread], work: impl Fn(&mut Thread) -> f64 + Sync) -> f64 {
    let barrier = &Barrier::new(threads.len());
    let timed = |thread| {
        barrier.wait();
        let start = Instant::now();
        work(thread) / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let timed = &timed;
        let running: Vec<_> = threads.iter_mut().map(|thread| scope.spawn(move || timed(thread))).collect();
        running.into_iter().filter_map(|running| running.join().ok()).sum()
    })
}
