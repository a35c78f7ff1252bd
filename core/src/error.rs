//! Why a model file makes no model, and one error for all that can go wrong on the way from it to an image.

use core::convert::Infallible;

use crate::cpu::Misaligned;
use crate::denoiser::RunError;
use crate::gguf::{GgufError, Name};
use crate::ops::OpError;
use crate::plan::PlanError;
use crate::room::NoRoom;
use crate::sampler::SettingsError;

/// Why the processor draws no image, whichever step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file holds no model.
    Model(ModelError),
    /// The settings make no sampler.
    Settings(SettingsError),
    /// There is no plan for such a batch.
    Plan(PlanError),
    /// The memory is too small.
    Room(NoRoom),
    /// The file or the arena starts at no multiple of 64.
    Misaligned(Misaligned),
    /// Drawing failed.
    Run(RunError<Infallible>),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Model(e) => e.fmt(f),
            Error::Settings(e) => e.fmt(f),
            Error::Plan(e) => e.fmt(f),
            Error::Room(e) => e.fmt(f),
            Error::Misaligned(e) => e.fmt(f),
            Error::Run(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

macro_rules! from {
    ($($variant:ident: $error:ty,)*) => {
        $(
            impl From<$error> for Error {
                fn from(e: $error) -> Error {
                    Error::$variant(e)
                }
            }
        )*
    };
}

from! {
    Model: ModelError,
    Settings: SettingsError,
    Plan: PlanError,
    Room: NoRoom,
    Misaligned: Misaligned,
    Run: RunError<Infallible>,
}

impl From<GgufError> for Error {
    fn from(e: GgufError) -> Error {
        Error::Model(ModelError::Gguf(e))
    }
}

impl From<OpError<Infallible>> for Error {
    fn from(e: OpError<Infallible>) -> Error {
        Error::Run(RunError::Op(e))
    }
}

/// Why a model file makes no model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is damaged, or lacks a key or tensor.
    Gguf(GgufError),
    /// `general.architecture` names something that denoir does not run.
    Architecture(Name),
    /// `general.architecture` is no text encoder's.
    NoTextEncoder(Name),
    /// A hyper-parameter makes no network.
    Config {
        /// Its key.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A tensor has another shape than the hyper-parameters ask for.
    Shape {
        /// The tensor.
        name: Name,
        /// Rows that were expected.
        rows: usize,
        /// Columns that were expected.
        cols: usize,
    },
    /// A tensor has an element type that it cannot have.
    TensorType {
        /// The tensor.
        name: Name,
    },
    /// A tensor does not start at a multiple of its element size.
    Misaligned {
        /// The tensor.
        name: Name,
    },
    /// The file's bytes do not start at a multiple of 64.
    MisalignedFile,
    /// An offset does not fit this machine's address space.
    TooLarge,
}

impl From<GgufError> for ModelError {
    fn from(e: GgufError) -> Self {
        ModelError::Gguf(e)
    }
}

impl core::fmt::Display for ModelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ModelError::Gguf(e) => e.fmt(f),
            ModelError::Architecture(name) => write!(f, "general.architecture is {name:?}, which denoir does not run"),
            ModelError::NoTextEncoder(name) => {
                write!(f, "general.architecture is {name:?}; a text encoder is \"qwen3\"")
            }
            ModelError::Config { key, rule } => write!(f, "{key} {rule}"),
            ModelError::Shape { name, rows, cols } => write!(f, "tensor {name:?} should be {rows} × {cols}"),
            ModelError::TensorType { name } => write!(f, "tensor {name:?} has an element type that it cannot have"),
            ModelError::Misaligned { name } => {
                write!(f, "tensor {name:?} does not start at a multiple of its element size")
            }
            ModelError::MisalignedFile => f.write_str("the model's bytes must start at a multiple of 64 in memory"),
            ModelError::TooLarge => f.write_str("the model does not fit this machine's address space"),
        }
    }
}

impl core::error::Error for ModelError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ModelError::Gguf(e) => Some(e),
            _ => None,
        }
    }
}
