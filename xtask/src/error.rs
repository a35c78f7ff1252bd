//! Why a task failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a task failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is invalid.
    Usage(String),
    /// A program could not be started.
    Start { program: String, source: io::Error },
    /// A program failed and has explained why.
    Failed { command: String },
    /// Tests failed, or none ran.
    Tests(Counts),
    /// A program that a check needs is missing.
    Missing { what: String, cure: String },
    /// A file could not be read or written.
    File { path: PathBuf, source: io::Error },
    /// A file or a program's output does not have the expected form.
    Form { what: String },
    /// Rules are broken; the findings have been printed.
    Findings(usize),
    /// Checks of `ci` failed or could not run; the summary names them.
    Checks(usize),
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Ignored tests, and those that printed a line `skipped: REASON`.
    pub(crate) skipped: u64,
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { path, source }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) => f.write_str(text),
            Error::Start { program, source } => write!(f, "{program} could not be started: {source}"),
            Error::Failed { command } => write!(f, "{command} failed"),
            Error::Tests(counts) if counts.passed + counts.failed == 0 => f.write_str("no test ran"),
            Error::Tests(counts) => counts.fmt(f),
            Error::Missing { what, cure } => write!(f, "{what} missing: {cure}"),
            Error::File { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Form { what } => f.write_str(what),
            Error::Findings(1) => f.write_str("1 finding"),
            Error::Findings(n) => write!(f, "{n} findings"),
            Error::Checks(1) => f.write_str("1 check did not pass"),
            Error::Checks(n) => write!(f, "{n} checks did not pass"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Start { source, .. } | Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
