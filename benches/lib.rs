//! Benchmarks: what they share.

mod stage;

use std::time::{Duration, Instant};

use denoir::Isa;
use denoir_core::DType;

pub use stage::{Layer, Stage};

/// The calling thread's time on a processor: on a busy machine the only time that means something. 0 where the
/// system does not say.
pub fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// GFLOP/s that one core's multipliers reach on weights of a type; `None` where the level has no loop for it.
pub fn peak(isa: Isa, dtype: DType) -> Option<f64> {
    let once = || {
        let start = Instant::now();
        Some(isa.spin(dtype)? / start.elapsed().as_secs_f64() / 1e9)
    };
    // Something else may run: the best of a few.
    (0..5).filter_map(|_| once()).reduce(f64::max)
}

/// The largest resident set of this process so far; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
