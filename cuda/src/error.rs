//! Errors of a CUDA device.

use cudarc::driver::sys::CUresult;

/// Errors of a CUDA device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This machine has no CUDA driver.
    NoDriver,
    /// The driver is older than the kernels' compiler.
    DriverTooOld {
        /// The CUDA version that the driver supports, such as `11.4`.
        found: String,
        /// The oldest sufficient version, or the missing function.
        needed: &'static str,
    },
    /// The driver works, but there is no device.
    NoDevice,
    /// No device has this number.
    NoSuchDevice {
        /// The requested number.
        index: usize,
        /// Number of devices.
        count: usize,
    },
    /// The program's stream belongs to another device than the one that it asked for.
    StreamOfOtherDevice {
        /// The requested device's number.
        asked: usize,
        /// The number of the stream's device.
        stream_of: usize,
    },
    /// The device is too old for the kernels, which need compute capability 8.0.
    ComputeCapability {
        /// The device's name.
        device: String,
        /// The device's compute capability.
        found: (u32, u32),
    },
    /// Kernels give wrong results.
    SelfTest {
        /// The device's name.
        device: String,
        /// The kernels, separated by commas.
        kernels: String,
    },
    /// The device was lost while a kernel of the self-test ran.
    InSelfTest {
        /// The kernel.
        kernel: &'static str,
        /// The device's error.
        source: Box<Error>,
    },
    /// A matrix or a kernel's grid is larger than kernels can count.
    TooLarge {
        /// The matrix or grid.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The largest that can be.
        limit: u64,
    },
    /// The device is out of memory.
    OutOfDeviceMemory {
        /// The call that failed.
        call: &'static str,
        /// Requested bytes; 0 if the call does not tell.
        bytes: u64,
        /// Bytes that the driver says are free, if it was asked. There may be enough, but not in one piece.
        free: Option<u64>,
    },
    /// The device crashed or was removed, and no call in its context succeeds any more: neither this backend's nor those of
    /// others in the process that share it. Once all have let it go, the device may open again.
    DeviceLost {
        /// The call that noticed it.
        call: &'static str,
        /// Its result.
        result: CUresult,
    },
    /// Another call failed.
    Call {
        /// The call.
        call: &'static str,
        /// Its result.
        result: CUresult,
    },
}

impl Error {
    pub(crate) fn of_call(call: &'static str, result: CUresult) -> Error {
        use CUresult as R;
        match result {
            R::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfDeviceMemory { call, bytes: 0, free: None },
            R::CUDA_ERROR_NO_DEVICE => Error::NoDevice,
            R::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                Error::DriverTooOld { found: "another version".into(), needed: call }
            }
            R::CUDA_ERROR_ILLEGAL_ADDRESS
            | R::CUDA_ERROR_LAUNCH_TIMEOUT
            | R::CUDA_ERROR_LAUNCH_FAILED
            | R::CUDA_ERROR_HARDWARE_STACK_ERROR
            | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | R::CUDA_ERROR_MISALIGNED_ADDRESS
            | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | R::CUDA_ERROR_INVALID_PC
            | R::CUDA_ERROR_ECC_UNCORRECTABLE
            | R::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | R::CUDA_ERROR_ASSERT
            | R::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | R::CUDA_ERROR_DEVICE_UNAVAILABLE
            | R::CUDA_ERROR_UNKNOWN => Error::DeviceLost { call, result },
            result => Error::Call { call, result },
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NoDriver => f.write_str("this machine has no CUDA driver"),
            Error::DriverTooOld { found, needed } => {
                write!(f, "the CUDA driver is too old: it supports {found}, {needed} is needed")
            }
            Error::NoDevice => f.write_str("no CUDA device was found"),
            Error::NoSuchDevice { index, count } => {
                write!(f, "there is no CUDA device {index}: there are {count}, from 0")
            }
            Error::StreamOfOtherDevice { asked, stream_of } => {
                write!(f, "the stream belongs to CUDA device {stream_of}, not to {asked}")
            }
            Error::ComputeCapability { device, found: (major, minor) } => {
                write!(f, "CUDA device {device} has compute capability {major}.{minor}, 8.0 is needed")
            }
            Error::SelfTest { device, kernels } => write!(f, "CUDA device {device} computes wrongly: {kernels}"),
            Error::InSelfTest { kernel, source } => write!(f, "{kernel}, in the self-test: {source}"),
            Error::TooLarge { what, size, limit } => write!(f, "{what} of {size} is too large: {limit} at most"),
            Error::OutOfDeviceMemory { call, bytes, free } => {
                f.write_str("the CUDA device is out of memory")?;
                match (bytes, free) {
                    (0, _) => {}
                    (_, None) => write!(f, ": {bytes} bytes cannot be had")?,
                    (_, Some(free)) if free < bytes => write!(f, ": {bytes} bytes are needed, {free} are free")?,
                    (_, Some(free)) => write!(f, ": no {bytes} bytes in one piece, though {free} are free")?,
                }
                write!(f, " ({call})")
            }
            Error::DeviceLost { call, result } => write!(f, "the CUDA device was lost: {result:?} ({call})"),
            Error::Call { call, result } => write!(f, "{call} failed: {result:?}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::InSelfTest { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_short_is_told_from_memory_in_pieces() {
        let says = |bytes, free| Error::OutOfDeviceMemory { call: "cuMemAlloc", bytes, free }.to_string();
        assert_eq!(says(0, None), "the CUDA device is out of memory (cuMemAlloc)");
        assert_eq!(says(9, Some(8)), "the CUDA device is out of memory: 9 bytes are needed, 8 are free (cuMemAlloc)");
        assert!(says(9, Some(20)).contains("no 9 bytes in one piece, though 20 are free"));
    }
}
