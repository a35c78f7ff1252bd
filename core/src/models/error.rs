//! Why a model file makes no model.

use crate::gguf::{GgufError, Name};

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
