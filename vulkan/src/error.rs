//! Errors of a Vulkan device.

use ash::vk;

use crate::Tier;

/// Errors of a Vulkan device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This machine has no Vulkan loader; the text is the system's error.
    NoLoader(String),
    /// The loader works, but no device can compute.
    NoDevice,
    /// No device has this number.
    NoSuchDevice {
        /// The requested number.
        index: usize,
        /// Number of devices.
        count: usize,
    },
    /// The device or the loader lacks a required feature.
    Missing {
        /// The device's name, or `loader`.
        device: String,
        /// The missing feature.
        what: &'static str,
    },
    /// The device cannot run the requested tier.
    NoTier {
        /// The device's name.
        device: String,
        /// The tier.
        tier: Tier,
    },
    /// A kernel gives wrong results even at the floor: the driver is broken.
    SelfTest {
        /// The device's name.
        device: String,
    },
    /// A buffer or a kernel's operand is larger than the device allows.
    TooLarge {
        /// The buffer or operand.
        what: &'static str,
        /// Bytes.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
    },
    /// The device is out of memory.
    OutOfDeviceMemory {
        /// The call that failed.
        call: &'static str,
        /// Requested bytes; 0 if the call does not tell.
        bytes: u64,
    },
    /// The machine is out of memory.
    OutOfHostMemory {
        /// The call that failed.
        call: &'static str,
    },
    /// The device was lost, after a crash or watchdog reset. A new backend is needed.
    DeviceLost {
        /// The call that noticed it.
        call: &'static str,
    },
    /// Another call failed.
    Call {
        /// The call.
        call: &'static str,
        /// Its result.
        result: vk::Result,
    },
}

impl Error {
    pub(crate) fn of_call(call: &'static str, result: vk::Result) -> Error {
        match result {
            vk::Result::ERROR_OUT_OF_DEVICE_MEMORY => Error::OutOfDeviceMemory { call, bytes: 0 },
            vk::Result::ERROR_OUT_OF_HOST_MEMORY => Error::OutOfHostMemory { call },
            // A wait that times out means a device that does not answer.
            vk::Result::ERROR_DEVICE_LOST | vk::Result::TIMEOUT => Error::DeviceLost { call },
            result => Error::Call { call, result },
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NoLoader(why) => write!(f, "this machine has no Vulkan: {why}"),
            Error::NoDevice => f.write_str("no Vulkan device that can compute was found"),
            Error::NoSuchDevice { index, count } => {
                write!(f, "there is no Vulkan device {index}: there are {count}, from 0")
            }
            Error::Missing { device, what } => write!(f, "Vulkan device {device} lacks {what}"),
            Error::NoTier { device, tier } => write!(f, "Vulkan device {device} cannot run the tier {tier}"),
            Error::SelfTest { device } => {
                write!(f, "Vulkan device {device} computes wrongly: its driver is broken, or too old")
            }
            Error::TooLarge { what, bytes, limit } => {
                write!(f, "{what} has {bytes} bytes, the Vulkan device allows {limit}")
            }
            Error::OutOfDeviceMemory { call, bytes: 0 } => write!(f, "the Vulkan device is out of memory ({call})"),
            Error::OutOfDeviceMemory { call, bytes } => {
                write!(f, "the Vulkan device is out of memory: {bytes} bytes cannot be had ({call})")
            }
            Error::OutOfHostMemory { call } => write!(f, "out of memory ({call})"),
            Error::DeviceLost { call } => write!(f, "the Vulkan device was lost: it crashed or took too long ({call})"),
            Error::Call { call, result } => write!(f, "{call} failed: {result}"),
        }
    }
}

impl std::error::Error for Error {}
