use std::convert::Infallible;
use std::path::PathBuf;

use denoir_core::plan::PlanError;
use denoir_core::qwen3::EncodeError;
use denoir_core::sampler::SettingsError;
use denoir_core::{ModelError, RunError};

use crate::TokenizerError;

/// What can go wrong between a model file and an image.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    Io(PathBuf, std::io::Error),
    /// A file holds no model that denoir runs. `None`: the model was given as bytes.
    Model(Option<PathBuf>, ModelError),
    /// The sampler preset in a model file makes no sampler.
    Preset(SettingsError),
    /// The activations cannot be planned.
    Plan(PlanError),
    /// A model was asked for something that it does not draw.
    Condition(&'static str),
    /// A text encoder's file holds no tokenizer that denoir has.
    Tokenizer(PathBuf, TokenizerError),
    /// A prompt cannot be cut into tokens.
    Prompt(TokenizerError),
    /// A prompt could not be encoded.
    Encode(EncodeError<Infallible>),
    /// This much memory, in bytes, cannot be had.
    Memory(usize),
    /// A backend that this build does not have, or a device that this machine does not have.
    Backend(String),
    /// A device could not be opened.
    Device(DeviceError),
    /// A worker thread could not be started.
    Threads(std::io::Error),
    /// The images could not be drawn.
    Run(RunError<DeviceError>),
}

/// What can go wrong on a device. The processor has nothing to add here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(denoir_cuda::Error),
    /// A Vulkan device.
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
    /// Whether the device or the machine has too little free memory.
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

    /// Whether there is no such device, or none that denoir can use.
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
            Error::Condition(what) => f.write_str(what),
            Error::Tokenizer(path, e) => write!(f, "{}: {e}", path.display()),
            Error::Prompt(e) => write!(f, "the prompt: {e}"),
            Error::Encode(e) => e.fmt(f),
            Error::Memory(bytes) => write!(f, "out of memory: {bytes} bytes cannot be had"),
            Error::Backend(what) => f.write_str(what),
            Error::Device(e) => e.fmt(f),
            Error::Threads(e) => write!(f, "a worker thread could not be started: {e}"),
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
            Error::Tokenizer(_, e) | Error::Prompt(e) => Some(e),
            Error::Encode(e) => Some(e),
            Error::Run(e) => Some(e),
            Error::Device(e) => Some(e),
            Error::Condition(_) | Error::Memory(_) | Error::Backend(_) => None,
        }
    }
}

impl From<RunError<Infallible>> for Error {
    fn from(e: RunError<Infallible>) -> Self {
        Error::Run(e.map_device(|never| match never {}))
    }
}

impl From<PlanError> for Error {
    fn from(e: PlanError) -> Self {
        Error::Plan(e)
    }
}
