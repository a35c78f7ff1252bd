use std::convert::Infallible;
use std::path::PathBuf;

use denoir_core::plan::PlanError;
use denoir_core::qwen3::EncodeError;
use denoir_core::sampler::SettingsError;
use denoir_core::{ModelError, RunError};

use crate::TokenizerError;
use crate::reserve::Refused;

/// What can go wrong between a model file and an image.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    Io(PathBuf, std::io::Error),
    /// The file is not a model that denoir can run. `None`: the model came from bytes in memory.
    Model(Option<PathBuf>, ModelError),
    /// The sampler preset in a model file is invalid.
    Preset(SettingsError),
    /// The activations cannot be planned.
    Plan(PlanError),
    /// The condition does not fit the model.
    Condition(&'static str),
    /// A text encoder's file has no tokenizer that denoir supports.
    Tokenizer(PathBuf, TokenizerError),
    /// A prompt could not be encoded.
    Encode(EncodeError<Infallible>),
    /// An allocation of this many bytes failed.
    Memory(usize),
    /// This build lacks the backend, or this machine lacks the device.
    Backend(String),
    /// A device could not be opened.
    Device(DeviceError),
    /// Images cannot lie on a device as the caller says.
    Layout(&'static str),
    /// The caller's memory is too small for the images.
    Room {
        /// Its size in bytes.
        bytes: usize,
        /// Bytes that the images take.
        needed: usize,
    },
    /// A worker thread could not be started.
    Threads(std::io::Error),
    /// The pipeline belongs to the process that this one was forked from; its threads and devices are not here.
    Forked,
    /// The images could not be drawn.
    Run(RunError<DeviceError>),
}

/// Errors of devices. The processor adds none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// Error of a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(denoir_cuda::Error),
    /// Error of a Vulkan device.
    #[cfg(feature = "vulkan")]
    Vulkan(denoir_vulkan::Error),
}

impl std::fmt::Display for DeviceError {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            #[cfg(feature = "cuda")]
            DeviceError::Cuda(ref e) => e.fmt(_f),
            #[cfg(feature = "vulkan")]
            DeviceError::Vulkan(ref e) => e.fmt(_f),
        }
    }
}

impl std::error::Error for DeviceError {}

impl DeviceError {
    /// Returns whether the device or the machine is out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        match *self {
            #[cfg(feature = "vulkan")]
            DeviceError::Vulkan(ref e) => matches!(
                e,
                denoir_vulkan::Error::OutOfDeviceMemory { .. } | denoir_vulkan::Error::OutOfHostMemory { .. }
            ),
            #[cfg(feature = "cuda")]
            DeviceError::Cuda(ref e) => matches!(e, denoir_cuda::Error::OutOfDeviceMemory { .. }),
        }
    }

    /// Returns whether the device does not exist, or denoir cannot use it.
    pub fn is_absent(&self) -> bool {
        match *self {
            #[cfg(feature = "vulkan")]
            DeviceError::Vulkan(ref e) => matches!(
                e,
                denoir_vulkan::Error::NoLoader(_)
                    | denoir_vulkan::Error::NoDevice
                    | denoir_vulkan::Error::NoSuchDevice { .. }
                    | denoir_vulkan::Error::Missing { .. }
                    | denoir_vulkan::Error::NoTier { .. }
            ),
            #[cfg(feature = "cuda")]
            DeviceError::Cuda(ref e) => matches!(
                e,
                denoir_cuda::Error::NoDriver
                    | denoir_cuda::Error::DriverTooOld { .. }
                    | denoir_cuda::Error::NoDevice
                    | denoir_cuda::Error::NoSuchDevice { .. }
                    | denoir_cuda::Error::ComputeCapability { .. }
            ),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Error::Model(Some(path), e) => write!(f, "{}: {e}", path.display()),
            Error::Model(None, e) => e.fmt(f),
            Error::Preset(e) => write!(f, "the model file's sampler preset: {e}"),
            Error::Plan(e) => e.fmt(f),
            Error::Condition(what) | Error::Layout(what) => f.write_str(what),
            Error::Room { bytes, needed } => write!(f, "the memory has {bytes} bytes, the images take {needed}"),
            Error::Tokenizer(path, e) => write!(f, "{}: {e}", path.display()),
            Error::Encode(e) => e.fmt(f),
            Error::Memory(bytes) => write!(f, "out of memory: {bytes} bytes cannot be had"),
            Error::Backend(what) => f.write_str(what),
            Error::Device(e) => e.fmt(f),
            Error::Threads(e) => write!(f, "a worker thread could not be started: {e}"),
            Error::Forked => f.write_str("the pipeline belongs to the process that this one was forked from"),
            Error::Run(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(_, e) | Error::Threads(e) => Some(e),
            Error::Model(_, e) => Some(e),
            Error::Preset(e) => Some(e),
            Error::Plan(e) => Some(e),
            Error::Tokenizer(_, e) => Some(e),
            Error::Encode(e) => Some(e),
            Error::Run(e) => Some(e),
            Error::Device(e) => Some(e),
            Error::Condition(_)
            | Error::Layout(_)
            | Error::Room { .. }
            | Error::Memory(_)
            | Error::Backend(_)
            | Error::Forked => None,
        }
    }
}

impl From<RunError<Infallible>> for Error {
    fn from(e: RunError<Infallible>) -> Self {
        Error::Run(e.map_device(|never| match never {}))
    }
}

impl From<Refused> for Error {
    fn from(Refused(bytes): Refused) -> Self {
        Error::Memory(bytes)
    }
}

impl From<PlanError> for Error {
    fn from(e: PlanError) -> Self {
        Error::Plan(e)
    }
}
