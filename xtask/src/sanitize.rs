//! Sanitizers, valgrind, Miri and loom. They take minutes each and are no part of `ci`; `benches/record/sanitizers.md`
//! records what they found. Everything that is built for them lies in `sanitize` in the build folder.

mod build;
mod programs;

use std::time::Instant;

use crate::cargo;
use crate::error::Error;
use crate::outcome::{Outcome, Report};
use crate::tool::{self, Project};
use build::{Build, RustSource};

/// What to run.
pub(crate) struct Settings {
    /// Names of checks, or of parts of them such as `address/stress`; all of them by default.
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

/// The parts of the checks that have some.
const PARTS: [&str; 3] = ["matrix", "examples", "stress"];
const IN_PARTS: [&str; 3] = ["undefined", "address", "thread"];

impl Settings {
    /// The first name of `only` that means nothing.
    fn unknown(&self) -> Option<&String> {
        let known = |only: &str| match only.split_once('/') {
            None => CHECKS.iter().any(|(name, _)| *name == only),
            Some((check, part)) => IN_PARTS.contains(&check) && PARTS.contains(&part),
        };
        self.only.iter().find(|only| !known(only))
    }

    fn asks_for(&self, check: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.split('/').next() == Some(check))
    }

    fn asks_for_part(&self, check: &str, part: &str) -> bool {
        let asks = |only: &String| only == check || only.split_once('/') == Some((check, part));
        self.only.is_empty() || self.only.iter().any(asks)
    }
}

/// Runs the checks, even after a failure, and prints a summary.
pub(crate) fn run(project: &Project, settings: &Settings) -> Result<(), Error> {
    if let Some(unknown) = settings.unknown() {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        let (names, parts) = (names.join(", "), IN_PARTS.map(|check| format!("{check}/stress")).join(", "));
        return Err(Error::Usage(format!("--only knows {names}, and parts such as {parts}; not {unknown}")));
    }
    let mut report = Report::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| settings.asks_for(name)) {
        println!("\n== {name}");
        report.add(name, || Some(check(project, settings)));
    }
    report.finish()
}

/// The thread pool in every order of its threads' steps.
fn loom(project: &Project, _settings: &Settings) -> Result<Outcome, Error> {
    let mut command = project.cargo(["test", "--package", "denoir", "--test", "pool_model", "--", "--show-output"]);
    let mut orders = 0;
    // Each test prints how many it has tried.
    let tests = cargo::counted_lines(&mut command, |line| {
        let number = line.strip_suffix(" orders").and_then(|number| number.parse::<u64>().ok());
        orders += number.unwrap_or(0);
    })?;
    match orders {
        0 => Err(Error::Form { what: "loom tried no order".into() }),
        _ => Ok(Outcome::Note(format!("{tests} in {orders} orders"))),
    }
}

/// A check of the op matrix, the C examples and the stress program.
struct InParts<'a> {
    name: &'a str,
    /// Cases of each kernel.
    cases: &'a str,
    /// What C and C++ are compiled with.
    flags: &'a [&'a str],
    /// What the examples draw.
    model: &'a str,
    /// Of each pipeline of the stress program.
    threads: &'a [u32],
    /// Variables for every program.
    options: &'a [(&'a str, &'a str)],
}

impl InParts<'_> {
    /// Runs the parts that are asked for; says what each did.
    fn run(&self, build: &Build<'_>, settings: &Settings) -> Result<Outcome, Error> {
        let asked_for = |part| settings.asks_for_part(self.name, part);
        let mut notes = Vec::new();
        let mut add = |run: &dyn Fn() -> Result<String, Error>| {
            let start = Instant::now();
            let note = run()?;
            notes.push(format!("{note} in {:.0} s", start.elapsed().as_secs_f64()));
            Ok(())
        };
        if asked_for("matrix") {
            add(&|| programs::matrix(build, self.cases, self.options))?;
        }
        if asked_for("examples") {
            add(&|| programs::examples(build, self.flags, self.model, self.options))?;
        }
        for threads in self.threads.iter().filter(|_| asked_for("stress")) {
            add(&|| programs::stress(build, settings.seconds, *threads, self.options))?;
        }
        Ok(Outcome::Note(notes.join("; ")))
    }
}

/// Rust's own checks of overflow and of what unsafe functions are called with, which the development profile has; gcc's
/// for C and C++.
fn undefined(project: &Project, settings: &Settings) -> Result<Outcome, Error> {
    let mut build = Build::plain(project)?;
    build.profile = &[("DEBUG_ASSERTIONS", "true"), ("OVERFLOW_CHECKS", "true")];
    let flags = &["-fsanitize=undefined", "-fno-sanitize-recover=all"];
    let (cases, model, threads) = (programs::CASES, programs::DEMO, &[4]);
    InParts { name: "undefined", cases, flags, model, threads, options: &[] }.run(&build, settings)
}

/// Reads and writes outside of what was allocated, after it was freed; leaks.
fn address(project: &Project, settings: &Settings) -> Result<Outcome, Error> {
    let build = Build::sanitized(project, "address", "asan")?;
    let (cases, model, threads) = (programs::CASES, programs::DEMO, &[4]);
    InParts { name: "address", cases, flags: &["-fsanitize=address"], model, threads, options: &[] }
        .run(&build, settings)
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
    let options = &[("TSAN_OPTIONS", "halt_on_error=1")];
    // It is slower by far than the others.
    let (cases, model, threads) = (programs::FEW_CASES, programs::SMALL, &[4, 2]);
    InParts { name: "thread", cases, flags: &["-fsanitize=thread"], model, threads, options }.run(&build, settings)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_and_parts_are_asked_for_by_name() {
        let settings = |only: &[&str]| Settings { only: only.iter().map(|&name| name.into()).collect(), seconds: 1 };
        assert!(settings(&[]).asks_for_part("thread", "stress"));
        let some = settings(&["loom", "thread/stress"]);
        assert!(some.asks_for("loom") && some.asks_for("thread") && !some.asks_for("address"));
        assert!(some.asks_for_part("thread", "stress") && !some.asks_for_part("thread", "matrix"));
        assert!(settings(&["thread"]).asks_for_part("thread", "matrix"));
        assert_eq!(some.unknown(), None);
        for unknown in ["threads", "thread/all", "loom/stress"] {
            assert_eq!(settings(&[unknown]).unknown().map(String::as_str), Some(unknown));
        }
    }
}
