//! Why a command failed. Every message is one line.

use std::io;
use std::path::{Path, PathBuf};

use denoir::core::RunError;
use denoir::core::qwen3::EncodeError;
use denoir_convert::ConvertError;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The options ask for something impossible.
    Usage(String),
    /// Ctrl-C, or a termination signal.
    Interrupted,
    /// An error of the engine.
    Engine(denoir::Error),
    /// An error of the conversion.
    Convert(ConvertError),
    /// A file of prompt embeddings does not fit the model.
    Embeds(PathBuf, String),
    /// A file could not be read.
    Read(PathBuf, io::Error),
    /// A file could not be written; no part of it remains.
    Write(PathBuf, io::Error),
    /// A fixture is damaged, or asks for something unknown.
    Fixture(PathBuf, String),
    /// Computed values differ from the expected ones.
    Verify(String),
    /// Standard output could not be written.
    Stdout(io::Error),
}

impl Error {
    pub(crate) fn usage(message: impl Into<String>) -> Error {
        Error::Usage(message.into())
    }

    /// For `map_err` on reads of `path`.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Error {
        |e| Error::Read(path.to_owned(), e)
    }

    /// For `map_err` on writes to `path`.
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Error {
        |e| Error::Write(path.to_owned(), e)
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Usage(message) => f.write_str(message),
            Error::Interrupted => f.write_str("interrupted"),
            Error::Engine(e) => e.fmt(f),
            Error::Convert(e) => e.fmt(f),
            Error::Embeds(path, what) => write!(f, "{}: {what}", path.display()),
            Error::Read(path, e) => write!(f, "cannot read {}: {e}", path.display()),
            Error::Write(path, e) => write!(f, "cannot write {}: {e}", path.display()),
            Error::Fixture(path, what) => write!(f, "{}: {what}", path.display()),
            Error::Verify(what) => f.write_str(what),
            Error::Stdout(e) => write!(f, "cannot write standard output: {e}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Engine(e) => Some(e),
            Error::Convert(e) => Some(e),
            Error::Read(_, e) | Error::Write(_, e) | Error::Stdout(e) => Some(e),
            Error::Embeds(..) | Error::Usage(_) | Error::Interrupted | Error::Fixture(..) | Error::Verify(_) => None,
        }
    }
}

impl From<denoir::Error> for Error {
    fn from(e: denoir::Error) -> Self {
        match e {
            denoir::Error::Run(RunError::Cancelled) | denoir::Error::Encode(EncodeError::Cancelled) => {
                Error::Interrupted
            }
            other => Error::Engine(other),
        }
    }
}

impl From<ConvertError> for Error {
    fn from(e: ConvertError) -> Self {
        match e {
            ConvertError::Cancelled => Error::Interrupted,
            ConvertError::Folder(_) => Error::Usage(e.to_string()),
            other => Error::Convert(other),
        }
    }
}

impl From<denoir_golden::Error> for Error {
    fn from(e: denoir_golden::Error) -> Self {
        match e {
            denoir_golden::Error::Fixture(path, what) => Error::Fixture(path, what),
            denoir_golden::Error::Engine(e) => e.into(),
            denoir_golden::Error::Convert(e) => e.into(),
        }
    }
}
