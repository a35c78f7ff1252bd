//! All checks, one after the other.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Counts, Error};
use crate::tool::Project;
use crate::{aarch64, bare, capi, cargo, cuda, generate, gpu_kit, licences, lint, setup, testing};

/// A check.
pub(crate) struct Step {
    /// Its subcommand.
    pub(crate) name: &'static str,
    /// What it shows.
    title: &'static str,
    pub(crate) run: fn(&Project) -> Result<Outcome, Error>,
}

/// What a check that passed has to say.
pub(crate) enum Outcome {
    Passed,
    Note(String),
    Tests(Counts),
}

/// The checks in order, cheap ones first.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", title: "formatting", run: cargo::fmt },
    Step { name: "lint", title: "the project's own rules", run: lint::run },
    Step { name: "licences", title: "licences and sources of dependencies", run: licences::run },
    Step { name: "clippy", title: "clippy on all targets", run: cargo::clippy },
    Step { name: "test", title: "tests of the workspace", run: cargo::test },
    Step { name: "matrix", title: "cooperative matrices on Debian testing's Vulkan", run: testing::run },
    Step { name: "generate", title: "generated files are up to date", run: generate::check },
    Step { name: "cuda", title: "CUDA kernels are what their sources give, without spills", run: cuda::check },
    Step { name: "gpu-day", title: "a day with a GPU, rehearsed without one", run: gpu_kit::rehearse },
    Step { name: "doc", title: "documentation", run: cargo::doc },
    Step { name: "capi", title: "C and C++ programs", run: capi::check },
    Step { name: "aarch64", title: "the op matrix on aarch64, emulated", run: aarch64::run },
    Step { name: "bare", title: "core and a program on bare machines", run: bare::run },
];

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("ok"),
            Outcome::Note(note) => write!(f, "ok, {note}"),
            Outcome::Tests(counts) => write!(f, "ok, {counts}"),
        }
    }
}

/// How a check ended; nothing where it was left out.
type Ended = Option<Result<Outcome, Error>>;

/// How a check ended, in words.
fn verdict(result: &Ended) -> String {
    match result {
        None => "left out".into(),
        Some(Ok(outcome)) => outcome.to_string(),
        // That is no pass either.
        Some(Err(e @ Error::Missing { .. })) => format!("NOT RUN: {e}"),
        Some(Err(e)) => format!("FAILED: {e}"),
    }
}

/// What checks gave, in order.
pub(crate) struct Report {
    start: Instant,
    done: Vec<(&'static str, Ended, Duration)>,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report { start: Instant::now(), done: Vec::new() }
    }

    /// Carries a check out and says how it ended.
    pub(crate) fn add(&mut self, name: &'static str, check: impl FnOnce() -> Ended) {
        let start = Instant::now();
        let result = check();
        println!("== {name}: {} ({})", verdict(&result), seconds(start.elapsed()));
        self.done.push((name, result, start.elapsed()));
    }

    /// Sums up; an error where a check did not pass.
    pub(crate) fn finish(self) -> Result<(), Error> {
        println!("\n== summary ({})", seconds(self.start.elapsed()));
        for (name, result, time) in &self.done {
            println!("{:>8}  {name:<9} {}", seconds(*time), verdict(result));
        }
        let counts = self.done.iter().find_map(|(_, result, _)| match result {
            Some(Ok(Outcome::Tests(counts)) | Err(Error::Tests(counts))) => Some(*counts),
            _ => None,
        });
        println!("{}", counts.unwrap_or_default());
        match self.done.iter().filter(|(_, result, _)| matches!(result, Some(Err(_)))).count() {
            0 => Ok(()),
            count => Err(Error::Checks(count)),
        }
    }
}

/// Brings what the checks need, runs every one that is not left out, also after one that failed, and sums up.
pub(crate) fn run(project: &Project) -> Result<(), Error> {
    let mut report = Report::new();
    setup::run(project)?;
    for (step, i) in STEPS.iter().zip(1..) {
        println!("\n== {i}/{} {}: {}", STEPS.len(), step.name, step.title);
        report.add(step.name, || (!project.leaves_out(step.name)).then(|| (step.run)(project)));
    }
    report.finish()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
