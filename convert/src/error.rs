//! Errors of a conversion. Every message is one line that says what is wrong, where, and how to fix it if possible.

use core::fmt;
use std::io;
use std::path::PathBuf;

use denoir_core::sampler::SettingsError;

use crate::config::ConfigError;
use crate::safetensors::SafetensorsError;
use crate::torch::{PickleError, ZipError};

/// Why a checkpoint was not converted.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The output could not be written; no file is left behind.
    Write {
        /// The output file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The output path cannot be used.
    Output {
        /// The output file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A folder holds no checkpoint, or more than one.
    Folder(PathBuf),
    /// The input is not a checkpoint that this crate reads.
    Format {
        /// The input file.
        file: String,
        /// What it is instead, and how to fix it.
        reason: &'static str,
    },
    /// The zip container of a PyTorch checkpoint is damaged or unsupported.
    Zip {
        /// The input file.
        file: String,
        /// What is wrong.
        source: ZipError,
    },
    /// The pickle of a PyTorch checkpoint is damaged or contains something that is not allowed.
    Pickle {
        /// The input file.
        file: String,
        /// What is wrong.
        source: PickleError,
    },
    /// A safetensors file or index is damaged.
    Safetensors {
        /// The input file.
        file: String,
        /// What is wrong.
        source: SafetensorsError,
    },
    /// The configuration file is damaged or invalid.
    Config {
        /// The configuration file, or `--config` if the value did not come from one.
        file: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// A file that accompanies a text encoder's tensors is missing, damaged or of another kind.
    TextEncoder {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Weights cannot be stored as this type.
    WeightType(denoir_core::DType),
    /// The file of class names does not fit.
    Labels {
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint lacks the requested set of weights.
    Weights {
        /// The requested set.
        wanted: String,
        /// The sets in the checkpoint.
        available: Vec<String>,
    },
    /// The tensors do not belong to a network that denoir runs.
    UnknownNetwork {
        /// One of the names in the checkpoint.
        example: String,
    },
    /// Two entries have the same name once the prefix and `_orig_mod.` are dropped.
    DuplicateTensor(String),
    /// The checkpoint lacks a tensor of the network.
    MissingTensor(String),
    /// The checkpoint holds a tensor that the network does not have.
    UnexpectedTensor(String),
    /// A tensor's shape does not fit the rest of the network.
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the checkpoint.
        found: Vec<u64>,
        /// The required shape, or a property of it.
        wanted: String,
    },
    /// A tensor is not of a floating-point type that can be converted.
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type in the checkpoint.
        found: &'static str,
    },
    /// A tensor is not stored row by row.
    Strided(String),
    /// A tensor reaches past the end of its storage.
    OutOfStorage(String),
    /// Up to this tensor, the checkpoint's tensors are larger than the checkpoint: they share storage.
    Shared(String),
    /// A tensor holds NaN or infinity.
    NotFinite(String),
    /// A tensor holds a value beyond ±65504, the range of f16.
    F16Range(String),
    /// The configuration contradicts the checkpoint.
    Contradiction {
        /// The configuration key.
        key: &'static str,
        /// Its value in the configuration.
        config: String,
        /// The value according to the checkpoint.
        checkpoint: String,
    },
    /// [`Options::cancel`](crate::Options::cancel) was set; no file is left behind.
    Cancelled,
    /// The sampler settings of the checkpoint or its configuration are out of range.
    Sampler(SettingsError),
    /// The block that first sees the context tokens is not known for this depth.
    ContextStart {
        /// Number of blocks.
        depth: u64,
    },
}

impl ConvertError {
    pub(crate) fn text_encoder(file: &str, reason: String) -> ConvertError {
        ConvertError::TextEncoder { file: file.into(), reason }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ConvertError::*;
        match self {
            Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Output { path, reason } => write!(f, "cannot write {}: {reason}", path.display()),
            Folder(path) => {
                let problem = "a folder must hold one .safetensors.index.json or one .safetensors file";
                write!(f, "{}: {problem}; or give the checkpoint file itself", path.display())
            }
            Format { file, reason } => write!(f, "{file}: {reason}"),
            Zip { file, source } => write!(f, "{file}: {source}"),
            Pickle { file, source } => write!(f, "{file}: {source}"),
            Safetensors { file, source } => write!(f, "{file}: {source}"),
            Config { file, source } => write!(f, "{file}: {source}"),
            TextEncoder { file, reason } => write!(f, "{file}: {reason}"),
            WeightType(dtype) => write!(f, "weights cannot be stored as {dtype}; use f32, f16, bf16 or int8"),
            Labels { reason } => write!(f, "class names: {reason}"),
            Weights { wanted, available } => {
                write!(f, "the checkpoint has no weights {wanted:?}; it has: {}", available.join(", "))
            }
            UnknownNetwork { example } => {
                write!(f, "not a JiT or PixelGen checkpoint: no known network has the tensor {example:?}")
            }
            DuplicateTensor(name) => write!(f, "tensor {name:?} occurs twice"),
            MissingTensor(name) => write!(f, "tensor {name:?} is missing from the checkpoint"),
            UnexpectedTensor(name) => write!(f, "tensor {name:?} is not part of this network"),
            Shape { tensor, found, wanted } => {
                write!(f, "tensor {tensor:?} has shape {found:?}, but {wanted} is needed")
            }
            TensorType { tensor, found } => {
                write!(f, "tensor {tensor:?} is {found}; weights must be float32, float16, bfloat16 or float64")
            }
            Strided(name) => write!(f, "tensor {name:?} is not contiguous; save the checkpoint with .contiguous()"),
            OutOfStorage(name) => write!(f, "tensor {name:?} reaches past the end of its storage"),
            Shared(name) => {
                write!(f, "tensor {name:?} shares its storage with others; save the checkpoint with .clone()")
            }
            NotFinite(name) => write!(f, "tensor {name:?} holds NaN or infinity"),
            F16Range(name) => {
                write!(f, "tensor {name:?} holds a value beyond 65504, the range of f16; use --type bf16")
            }
            Contradiction { key, config, checkpoint } => {
                write!(f, "the configuration says {key} = {config}, but the checkpoint says {checkpoint}")
            }
            Sampler(source) => write!(f, "the sampler settings of the checkpoint or --config: {source}"),
            Cancelled => f.write_str("cancelled"),
            ContextStart { depth } => write!(
                f,
                "in_context_start is not in the checkpoint and not known for {depth} blocks; \
                 pass --config with {{\"in_context_start\": N}}"
            ),
        }
    }
}

impl core::error::Error for ConvertError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        use ConvertError::*;
        match self {
            Read { source, .. } | Write { source, .. } => Some(source),
            Zip { source, .. } => Some(source),
            Pickle { source, .. } => Some(source),
            Safetensors { source, .. } => Some(source),
            Config { source, .. } => Some(source),
            Sampler(source) => Some(source),
            _ => None,
        }
    }
}
