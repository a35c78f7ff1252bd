//! Fuzzing with libFuzzer and AddressSanitizer, on the stable compiler and without cargo-fuzz: `fuzz/` has the targets.
//!
//! The compiler's own flags for nightly users do all: its checks for memory, and counters at every branch, which tell
//! libFuzzer what an input reached. Only code for the target is compiled so, not build scripts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};
use run::Run;

mod record;
mod run;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Checks of memory are calls: inlined, they double the kernels' code, which is large.
/// `cfg(fuzzing)` is what the crates of others look at.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0 \
    -Cforce-frame-pointers=yes -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Kernels become functions so large with counters in them that the better allocation of registers takes minutes.
const CORE: &str = "profile.fuzz.package.denoir-core.rustflags=['-Cllvm-args=-optimize-regalloc=0']";
/// Time of each target unless `--seconds` says otherwise.
const SECONDS: u64 = 30;
/// Longest run of one process: a corpus is loaded again in each.
const SLICE: u64 = 600;
/// A failed allocation is an error that the library reports; freed memory need not be kept for long. Vulkan drivers are
/// other people's code, and leak.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("ASAN_OPTIONS", "allocator_may_return_null=1:quarantine_size_mb=16"),
    ("VK_DRIVER_FILES", "/dev/null"),
    ("VK_LOADER_LAYERS_DISABLE", "~all~"),
];
/// Longest input in bytes; those of `fuzz/corpus` are shorter.
const MAX_LEN: usize = 1 << 15;
/// Bytes that `--merge` keeps for each target at most.
const KEPT: u64 = 28 << 10;

/// `cargo xtask fuzz` with its own options.
pub(crate) fn command(project: &Project, args: &[String]) -> Result<(), Error> {
    let (mut wanted, mut seconds, mut hours, mut merge) = (targets(project)?, SECONDS as f64, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| Error::Usage(format!("{arg} needs a value")));
        let number = |text: &String| text.parse::<f64>().map_err(|_| Error::Usage(format!("{arg} takes a number")));
        match arg.as_str() {
            "--target" => {
                let name = value()?;
                wanted.retain(|target| target == name);
            }
            "--seconds" => seconds = number(value()?)?,
            "--hours" => hours = Some(number(value()?)?),
            "--merge" => merge = true,
            _ => return Err(Error::Usage(format!("fuzz does not take {arg}"))),
        }
    }
    if wanted.is_empty() {
        return Err(Error::Usage(format!("--target is one of {}", targets(project)?.join(", "))));
    }
    let fuzzer = Fuzzer::build(project)?;
    if merge {
        return wanted.iter().try_for_each(|target| fuzzer.merge(target));
    }
    let each = hours.map_or(seconds, |hours| hours * 3600.0 / wanted.len() as f64);
    let runs = fuzzer.run_all(&wanted, Duration::from_secs_f64(each))?;
    if hours.is_some() {
        record::add(project, &runs)?;
    }
    verdict(&runs).map(|outcome| println!("fuzz: {outcome}"))
}

/// Runs each target for a short while.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    verdict(&Fuzzer::build(project)?.run_all(&targets(project)?, Duration::from_secs(SECONDS))?)
}

/// The targets: each has its folder in the corpus, as a test makes sure.
fn targets(project: &Project) -> Result<Vec<String>, Error> {
    let folder = project.root.join("fuzz/corpus");
    let entries = fs::read_dir(&folder).map_err(Error::file(&folder))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// A target that did not run is a failure too.
fn verdict(runs: &[Run]) -> Result<Outcome, Error> {
    let idle = runs.iter().filter(|run| run.executions == 0).count();
    match runs.iter().map(|run| run.findings.len()).sum::<usize>() + idle {
        0 => {
            let executions: u64 = runs.iter().map(|run| run.executions).sum();
            Ok(Outcome::Note(format!("{executions} executions of {} targets", runs.len())))
        }
        findings => Err(Error::Findings(findings)),
    }
}

/// The built program, and where it works.
struct Fuzzer<'p> {
    project: &'p Project,
    program: PathBuf,
    /// Below it: the corpus that grows, findings, logs.
    folder: PathBuf,
}

impl<'p> Fuzzer<'p> {
    fn build(project: &'p Project) -> Result<Fuzzer<'p>, Error> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            let cure = "run it there, or leave it out with --without fuzz".into();
            return Err(Error::Missing { what: "x86-64 Linux, whose sanitizer fuzzing uses, is".into(), cure });
        }
        let args = ["build", "--package", "denoir-fuzz", "--bin", "denoir-fuzz", "--features", "libfuzzer"];
        let mut cargo = project.cargo(args);
        cargo.args(["--profile", "fuzz", "--target", TRIPLE, "-Zprofile-rustflags", "--config", CORE]);
        // The compiler is stable, and takes the flags of a nightly one.
        tool::run(cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS))?;
        let target = tool::target_folder()?;
        let program = target.join(TRIPLE).join("fuzz/denoir-fuzz");
        Ok(Fuzzer { project, program, folder: target.join("fuzz") })
    }

    /// Runs each target for so much processor time, a target to a processor.
    fn run_all(&self, targets: &[String], time: Duration) -> Result<Vec<Run>, Error> {
        let left = Mutex::new(targets.iter());
        let runs = Mutex::new(Vec::new());
        let next = || left.lock().ok()?.next();
        let work = || {
            while let Some(target) = next() {
                let run = self.run(target, time)?;
                println!("{run}");
                runs.lock().unwrap_or_else(|e| e.into_inner()).push(run);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let count = std::thread::available_parallelism().map_or(1, |n| n.get().min(targets.len()));
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| Err(Error::Form { what: "a fuzzing thread failed".into() }))
            })
        })?;
        let mut runs = runs.into_inner().unwrap_or_else(|e| e.into_inner());
        runs.sort_by(|a: &Run, b: &Run| a.target.cmp(&b.target));
        Ok(runs)
    }

    /// Runs a target until its time is up or it finds something.
    fn run(&self, target: &str, time: Duration) -> Result<Run, Error> {
        let mut run = Run { target: target.into(), ..Run::default() };
        let time = time.as_secs_f64();
        // On a busy machine a process gets less of the processor than of the clock. Less than this is as good as nothing.
        while run.findings.is_empty() && run.processor < time - 0.1 * time.min(20.0) {
            let slice = ((time - run.processor).ceil() as u64).clamp(1, SLICE);
            let log = self.file("logs", &format!("{target}.log"))?;
            let mut command = self.fuzz(target)?;
            command.arg(format!("-max_total_time={slice}"));
            let status = self.logged(&mut command, &log)?;
            let text = String::from_utf8_lossy(&fs::read(&log).map_err(Error::file(&log))?).into_owned();
            let before = run.executions;
            run.read(&text);
            if !status {
                run.findings.push(finding(&text));
                println!("{target}: {}\n{}", run.findings[0], tail(&text));
                let [asan, drivers, layers] = ENVIRONMENT.map(|(name, value)| format!("{name}={value}"));
                let program = self.program.display();
                println!("again: DENOIR_FUZZ_TARGET={target} {asan} {drivers} {layers} {program} INPUT");
            }
            if run.executions == before {
                break;
            }
        }
        Ok(run)
    }

    /// The program on a target: the corpus that grows first, which new inputs are written to.
    fn fuzz(&self, target: &str) -> Result<Command, Error> {
        let grown = self.folder("corpus", target)?;
        let findings = self.folder("findings", target)?;
        let mut command = self.program(target);
        command.arg(&grown).arg(self.project.root.join("fuzz/corpus").join(target));
        command.arg(format!("-artifact_prefix={}/", findings.display()));
        command.args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1", "-reload=0"]);
        command.arg(format!("-max_len={MAX_LEN}"));
        let dictionary = self.project.root.join("fuzz/dictionaries").join(target);
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        Ok(command)
    }

    fn program(&self, target: &str) -> Command {
        let mut command = self.project.command(&self.program);
        command.env("DENOIR_FUZZ_TARGET", target).envs(ENVIRONMENT);
        command
    }

    /// Runs a command with all its output in a file. Returns whether it succeeded.
    fn logged(&self, command: &mut Command, log: &Path) -> Result<bool, Error> {
        let file = File::create(log).map_err(Error::file(log))?;
        let again = file.try_clone().map_err(Error::file(log))?;
        let status = command.stdin(Stdio::null()).stdout(file).stderr(again).status();
        status.map(|status| status.success()).map_err(tool::start(command))
    }

    /// Adds to the kept corpus what reaches more than it does, the shortest inputs first.
    fn merge(&self, target: &str) -> Result<(), Error> {
        let (kept, fewest) = (self.project.root.join("fuzz/corpus").join(target), self.folder("merged", target)?);
        fs::remove_dir_all(&fewest).and_then(|()| fs::create_dir(&fewest)).map_err(Error::file(&fewest))?;
        let mut command = self.program(target);
        command.arg("-merge=1").arg(&fewest).arg(&kept).arg(self.folder("corpus", target)?);
        if !self.logged(&mut command, &self.file("logs", &format!("{target}.merge.log"))?)? {
            return Err(tool::failed(&command));
        }
        let mut left = KEPT.saturating_sub(sizes(&kept)?.iter().map(|(len, _)| len).sum());
        let mut added = 0;
        for (len, file) in sizes(&fewest)? {
            let to = kept.join(file.file_name().unwrap_or_default());
            if len <= left && !to.exists() {
                fs::copy(&file, &to).map_err(Error::file(&to))?;
                (left, added) = (left - len, added + 1);
            }
        }
        println!("{target}: {added} inputs added");
        Ok(())
    }

    fn folder(&self, what: &str, target: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(what).join(target);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        Ok(folder)
    }

    fn file(&self, what: &str, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(what);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        Ok(folder.join(name))
    }
}

/// The input that a process wrote when it failed, or why it failed.
fn finding(log: &str) -> String {
    let written = log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    written.unwrap_or("it failed without an input").to_owned()
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// The files of a folder with their lengths, the shortest first.
fn sizes(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let mut sizes: Vec<_> = entries
        .filter_map(|entry| entry.ok())
        .filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())))
        .collect();
    sizes.sort();
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_did_not_run_has_not_passed() {
        let run = Run { executions: 1, ..Run::default() };
        assert!(verdict(std::slice::from_ref(&run)).is_ok() && verdict(&[run, Run::default()]).is_err());
        assert_eq!(finding("a\nartifact_prefix='x/'; Test unit written to x/crash-1\n"), "x/crash-1");
    }
}
