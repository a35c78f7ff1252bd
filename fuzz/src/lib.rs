//! Fuzz targets for everything that reads files of strangers or serves calls of a host.
//!
//! A target takes bytes, which it reads as a file, or as choices from which it builds one that most checks accept. It
//! panics if the project breaks a promise. [`Target::check`] adds those that hold for all inputs: no panic, no abort,
//! [`SECONDS`] of processor time, and memory within a multiple of the input.

mod exact;
mod input;
mod measure;
mod targets;

#[cfg(feature = "libfuzzer")]
pub use measure::count_memory;
pub use measure::say_processor_time;

use std::sync::OnceLock;
use std::time::Duration;

/// Longest processor time of an input. The promise is one second; AddressSanitizer and the fuzzer's counters make
/// everything a few times slower.
pub const SECONDS: u64 = 3;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Runs an input.
    run: fn(&[u8]),
    /// The memory that an input of so many bytes may take: this multiple, and so many MiB.
    memory: (usize, usize),
}

/// Every target.
pub const TARGETS: [Target; 9] = [
    Target { name: "gguf", run: targets::gguf::run, memory: (64, 16) },
    Target { name: "pickle", run: targets::pickle::run, memory: (64, 16) },
    Target { name: "torch", run: targets::torch::run, memory: (64, 16) },
    Target { name: "safetensors", run: targets::safetensors::run, memory: (64, 16) },
    Target { name: "config", run: targets::config::run, memory: (64, 16) },
    Target { name: "tokenizer", run: targets::tokenizer::run, memory: (64, 16) },
    Target { name: "embeddings", run: targets::embeddings::run, memory: (64, 16) },
    Target { name: "op", run: targets::op::run, memory: (64, 16) },
    Target { name: "capi", run: targets::capi::run, memory: (64, 16) },
];

impl Target {
    /// The target that `DENOIR_FUZZ_TARGET` names.
    ///
    /// # Panics
    /// If it names none.
    pub fn from_environment() -> Target {
        static TARGET: OnceLock<Target> = OnceLock::new();
        *TARGET.get_or_init(|| {
            let name = std::env::var("DENOIR_FUZZ_TARGET").unwrap_or_default();
            let target = TARGETS.into_iter().find(|target| target.name == name);
            target.unwrap_or_else(|| panic!("DENOIR_FUZZ_TARGET={name:?} is not a target"))
        })
    }

    /// Runs an input and checks what it cost.
    ///
    /// # Panics
    /// If the project breaks a promise.
    pub fn check(&self, input: &[u8]) {
        let (bytes, time) = measure::cost(|| (self.run)(input));
        let (times, mebibytes) = self.memory;
        let most = times * input.len() + (mebibytes << 20);
        assert!(bytes <= most, "{} bytes of input took {bytes} bytes of memory", input.len());
        assert!(time <= Duration::from_secs(SECONDS), "{} bytes of input took {time:?}", input.len());
    }
}
