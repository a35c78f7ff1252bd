//! Why a comparison could not be made. Every message is one line.

use std::path::PathBuf;

use denoir_convert::ConvertError;

/// Why a comparison could not be made.
#[derive(Debug)]
pub enum Error {
    /// A fixture is damaged, or asks for something unknown.
    Fixture(PathBuf, String),
    /// The engine's word.
    Engine(denoir::Error),
    /// The conversion's word.
    Convert(ConvertError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Fixture(path, what) => write!(f, "{}: {what}", path.display()),
            Error::Engine(e) => e.fmt(f),
            Error::Convert(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Fixture(..) => None,
            Error::Engine(e) => Some(e),
            Error::Convert(e) => Some(e),
        }
    }
}

impl From<denoir::Error> for Error {
    fn from(e: denoir::Error) -> Self {
        Error::Engine(e)
    }
}

impl From<ConvertError> for Error {
    fn from(e: ConvertError) -> Self {
        Error::Convert(e)
    }
}
