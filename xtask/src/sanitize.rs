//! Sanitizers, valgrind, Miri and loom. They take minutes each and are no part of `ci`; `benches/record/sanitizers.md`
//! records what they found. Everything that is built for them lies in `sanitize` in the build folder.

mod build;
mod programs;

use crate::cargo;
use crate::error::Error;
use crate::outcome::{Outcome, Report};
use crate::tool::{self, Project};
use build::{Build, RustSource};

/// What to run.
pub(crate) struct Settings {
    /// Names of checks, all of them by default.
    pub(crate) only: Vec<String>,
    /// How long the stress program runs for each model.
    pub(crate) seconds: u32,
}

/// How long the stress program runs by default.
pub(crate) const SECONDS: u32 = 60;

type Check = fn(&Project, &Settings) -> Result<Outcome, Error>;

/// The checks in order, cheap ones first.
const CHECKS: &[(&str, Check)] = &[
    ("loom", loom),
    ("undefined", undefined),
    ("valgrind", valgrind),
    ("address", address),
    ("thread", thread),
    ("miri", miri),
];

/// Runs the checks, even after a failure, and prints a summary.
pub(crate) fn run(project: &Project, settings: &Settings) -> Result<(), Error> {
    if let Some(unknown) = settings.only.iter().find(|only| CHECKS.iter().all(|(name, _)| name != only)) {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        return Err(Error::Usage(format!("--only knows {}, not {unknown}", names.join(", "))));
    }
    let asked_for = |name: &str| settings.only.is_empty() || settings.only.iter().any(|only| only == name);
    let mut report = Report::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| asked_for(name)) {
        println!("\n== {name}");
        report.add(name, || Some(check(project, settings)));
    }
    report.finish()
}

/// The thread pool in every order of its threads' steps.
fn loom(project: &Project, _settings: &Settings) -> Result<Outcome, Error> {
    cargo::counted(&mut project.cargo(["test", "--package", "denoir", "--test", "pool_model"]))
}

/// Rust's own checks of overflow and of what unsafe functions are called with, which the development profile has; gcc's
/// for C and C++.
fn undefined(project: &Project, settings: &Settings) -> Result<Outcome, Error> {
    let mut build = Build::plain(project)?;
    build.profile = &[("DEBUG_ASSERTIONS", "true"), ("OVERFLOW_CHECKS", "true")];
    let flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all"];
    let passes = programs::passes(&build, &[])?;
    let matrix = programs::matrix(&build, &[])?;
    let drawn = programs::examples(&build, &flags, &[])?;
    let stressed = programs::stress(&build, settings.seconds, 4, &[])?;
    Ok(Outcome::Note(format!("{passes}; {matrix}; {drawn}; {stressed}")))
}

/// Reads and writes outside of what was allocated, after it was freed; leaks.
fn address(project: &Project, settings: &Settings) -> Result<Outcome, Error> {
    let build = Build::sanitized(project, "address", "asan")?;
    let passes = programs::passes(&build, &[])?;
    let matrix = programs::matrix(&build, &[])?;
    let drawn = programs::examples(&build, &["-fsanitize=address"], &[])?;
    let stressed = programs::stress(&build, settings.seconds, 4, &[])?;
    Ok(Outcome::Note(format!("{passes}; {matrix}; {drawn}; {stressed}")))
}

/// Two threads that touch the same memory, one of them writing.
fn thread(project: &Project, settings: &Settings) -> Result<Outcome, Error> {
    let mut build = Build::sanitized(project, "thread", "tsan")?;
    let source = RustSource::find();
    if source.is_none() {
        println!("thread: without the standard library's source (`rustup component add rust-src`) it is not checked");
        println!("        itself, nor what two threads do in an order that only its locks and channels give them");
    }
    build.source = source;
    let options = [("TSAN_OPTIONS", "halt_on_error=1")];
    let passes = programs::passes(&build, &options)?;
    let matrix = programs::matrix(&build, &options)?;
    let drawn = programs::examples(&build, &["-fsanitize=thread"], &options)?;
    let two = programs::stress(&build, settings.seconds, 2, &options)?;
    let four = programs::stress(&build, settings.seconds, 4, &options)?;
    Ok(Outcome::Note(format!("{passes}; {matrix}; {drawn}; {two}; {four}")))
}

/// Memory of the C library's allocator: what was never written, and leaks.
fn valgrind(project: &Project, _settings: &Settings) -> Result<Outcome, Error> {
    if !tool::exists("valgrind") {
        return Err(Error::Missing { what: "valgrind".into(), cure: "install it".into() });
    }
    programs::valgrind(&Build::plain(project)?)
}

/// The rules of Rust's memory model, step by step: guided passes on one thread and on two, packing, and the pool.
fn miri(project: &Project, _settings: &Settings) -> Result<Outcome, Error> {
    if !tool::succeeds(&mut project.cargo(["miri", "--version"])) {
        return Err(Error::Missing {
            what: "Miri".into(),
            cure: "`rustup +nightly component add miri rust-src`, then `cargo +nightly xtask sanitize --only miri`"
                .into(),
        });
    }
    let folder = tool::target_folder()?.join("sanitize/miri");
    let tests: [&[&str]; 3] = [
        &["--package", "denoir-bare", "--test", "threads"],
        &["--package", "denoir", "--test", "pool"],
        &["--package", "denoir-core", "--lib", "cpu::"],
    ];
    for test in tests {
        let mut command = project.cargo(["miri", "test"]);
        // The arena is one allocation, of which tiles on other threads use disjoint parts.
        command.args(test).arg("--target-dir").arg(&folder).env("MIRIFLAGS", "-Zmiri-disable-isolation");
        cargo::counted(&mut command)?;
    }
    Ok(Outcome::Note(format!("{} test programs", tests.len())))
}
