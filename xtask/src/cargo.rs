//! Checks that run cargo.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use crate::error::{Counts, Error};
use crate::outcome::Outcome;
use crate::python;
use crate::tool::{self, Project};

pub(crate) fn fmt(project: &Project) -> Result<Outcome, Error> {
    tool::run(&mut project.cargo(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

pub(crate) fn clippy(project: &Project) -> Result<Outcome, Error> {
    clippy_all(project)?;
    // In the workspace the tests bring CUDA to the runtime; by default it has none.
    tool::run(&mut project.cargo(["clippy", "--package", "denoir-cli", "--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

/// Runs clippy with the features of the tests.
pub(crate) fn clippy_all(project: &Project) -> Result<Outcome, Error> {
    tool::run(&mut project.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

/// Builds the libraries and examples with the features of the tests, which have already compiled them.
pub(crate) fn build(project: &Project) -> Result<(), Error> {
    tool::run(&mut project.cargo(["build", "--workspace", "--lib", "--examples"]))
}

/// Documents libraries only: the binary `denoir` would overwrite the pages of the library `denoir`.
pub(crate) fn doc(project: &Project) -> Result<Outcome, Error> {
    let mut command = project.cargo(["doc", "--workspace", "--no-deps", "--lib"]);
    tool::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// Runs the tests and counts them from the closing lines of their programs.
pub(crate) fn test(project: &Project) -> Result<Outcome, Error> {
    let mut command = project.cargo(["test", "--workspace", "--no-fail-fast"]);
    if let Some(devices) = &project.require {
        command.env("DENOIR_REQUIRE", devices);
    }
    if !python::is_named() {
        match python::GGUF.make(project) {
            Ok(python) => drop(command.env("DENOIR_PYTHON", python)),
            Err(e) => println!("test: Python's gguf package cannot be had, its test will be skipped: {e}"),
        }
    }
    counted(&mut command)
}

/// Runs a test command and counts its tests. Running no test is a failure.
pub(crate) fn counted(command: &mut Command) -> Result<Outcome, Error> {
    counted_lines(command, |_| ()).map(Outcome::Tests)
}

/// As [`counted`], and shows `read` each line of the standard output.
pub(crate) fn counted_lines(command: &mut Command, read: impl FnMut(&str)) -> Result<Counts, Error> {
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(tool::start(command))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let counts = std::thread::scope(|scope| {
        let err = scope.spawn(|| err.map(|err| count(err, std::io::stderr(), |_| ())));
        let mut counts = out.map(|out| count(out, std::io::stdout(), read)).unwrap_or_default();
        counts.skipped += err.join().ok().flatten().unwrap_or_default().skipped;
        counts
    });
    let status = child.wait().map_err(tool::start(command))?;
    match (status.success(), counts.passed + counts.failed) {
        (true, 1..) => Ok(counts),
        (false, _) if counts.failed == 0 => Err(tool::failed(command)),
        _ => Err(Error::Tests(counts)),
    }
}

/// Forwards a stream line by line, and counts. Ends early if the stream cannot be read.
fn count(from: impl Read, mut to: impl Write, mut read: impl FnMut(&str)) -> Counts {
    let mut counts = Counts::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        // A closed output is no reason to stop the tests.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        counts.read(text.trim_end());
        read(text.trim_end());
        line.clear();
    }
    counts
}

impl Counts {
    /// Adds the counts from a line of a test program's output, such as `test result: ok. 12 passed; 0 failed; 1
    /// ignored; 0 measured; 0 filtered out; finished in 0.01s`, or `skipped: no Vulkan device`, which a test without
    /// its device writes past the capture of its output.
    fn read(&mut self, line: &str) {
        if line.trim_start().starts_with("skipped: ") {
            self.skipped += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let count = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_closing_lines() {
        let mut counts = Counts::default();
        counts.read("running 3 tests");
        counts.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.read("skipped: no Vulkan device");
        assert_eq!(counts.to_string(), "13 passed, 2 failed, 2 skipped");
    }
}
