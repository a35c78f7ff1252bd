//! Errors of reading a model from a file.

use crate::gguf::{GgufError, Name};

/// Errors of reading a model from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is damaged, or lacks a key or tensor.
    Gguf(GgufError),
    /// `general.architecture` names a network that denoir does not run.
    Architecture(Name),
    /// `general.architecture` does not name a text encoder.
    NoTextEncoder(Name),
    /// A hyper-parameter is invalid.
    Config {
        /// Its key.
        key: &'static str,
        /// The requirement on it.
        rule: &'static str,
    },
    /// A tensor's shape does not match the hyper-parameters.
    Shape {
        /// The tensor.
        name: Name,
        /// Expected number of rows.
        rows: usize,
        /// Expected number of columns.
        cols: usize,
    },
    /// A tensor has an unsupported element type.
    TensorType {
        /// The tensor.
        name: Name,
    },
    /// A tensor is not aligned to its element size.
    Misaligned {
        /// The tensor.
        name: Name,
    },
    /// The file's bytes are not aligned to 64.
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
