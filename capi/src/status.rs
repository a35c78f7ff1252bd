use std::ffi::{CStr, c_char};

use denoir::core::{ModelError, RunError};
use denoir::{DeviceError, Error, TokenizerError};

/// The result of a call. `denoir_context_message` gives the error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_status {
    /// Success.
    DENOIR_OK = 0,
    /// An argument is missing, is out of range or contradicts another.
    DENOIR_ERROR_ARGUMENT = 1,
    /// A buffer is too small.
    DENOIR_ERROR_BUFFER = 2,
    /// A file could not be opened or read.
    DENOIR_ERROR_IO = 3,
    /// The file or bytes are not a model that denoir can run.
    DENOIR_ERROR_MODEL = 4,
    /// The machine or the device does not have enough memory.
    DENOIR_ERROR_MEMORY = 5,
    /// The backend or device does not exist.
    DENOIR_ERROR_BACKEND = 6,
    /// The device failed, or belongs to the process that this one was forked from; a new pipeline may work.
    DENOIR_ERROR_DEVICE = 7,
    /// A callback or `denoir_cancel` stopped the call.
    DENOIR_ERROR_CANCELLED = 8,
    /// The image contains an infinity or NaN: the weights are damaged or overflow their type.
    DENOIR_ERROR_NOT_FINITE = 9,
    /// Another call is using the pipeline.
    DENOIR_ERROR_BUSY = 10,
    /// A bug in the library; free the handles of the call.
    DENOIR_ERROR_INTERNAL = 11,
}

use denoir_status::*;

/// A status and its message.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: denoir_status,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: denoir_status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Failure {
        Failure::new(DENOIR_ERROR_ARGUMENT, message)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure { status: status_of(&e), message: e.to_string() }
    }
}

fn status_of(e: &Error) -> denoir_status {
    match e {
        Error::Io(..) => DENOIR_ERROR_IO,
        Error::Model(_, ModelError::MisalignedFile) => DENOIR_ERROR_INTERNAL,
        Error::Tokenizer(_, TokenizerError::Memory) => DENOIR_ERROR_MEMORY,
        Error::Model(..) | Error::Preset(_) | Error::Tokenizer(..) => DENOIR_ERROR_MODEL,
        Error::Memory(_) | Error::Threads(_) => DENOIR_ERROR_MEMORY,
        Error::Backend(_) => DENOIR_ERROR_BACKEND,
        Error::Room { .. } => DENOIR_ERROR_BUFFER,
        Error::Forked => DENOIR_ERROR_DEVICE,
        Error::Device(e) => status_of_device(e),
        Error::Run(RunError::Cancelled) => DENOIR_ERROR_CANCELLED,
        Error::Run(RunError::NotFinite) => DENOIR_ERROR_NOT_FINITE,
        Error::Run(RunError::Op(denoir::core::backend::OpError::Device(e))) => status_of_device(e),
        Error::Run(RunError::Op(_)) => DENOIR_ERROR_INTERNAL,
        Error::Plan(_) | Error::Condition(_) | Error::Encode(_) | Error::Run(_) | Error::Layout(_) => {
            DENOIR_ERROR_ARGUMENT
        }
        _ => DENOIR_ERROR_INTERNAL,
    }
}

fn status_of_device(e: &DeviceError) -> denoir_status {
    if e.is_out_of_memory() {
        DENOIR_ERROR_MEMORY
    } else if e.is_absent() {
        DENOIR_ERROR_BACKEND
    } else {
        DENOIR_ERROR_DEVICE
    }
}

/// Returns the name of a status, such as `cancelled`; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn denoir_status_name(status: i32) -> *const c_char {
    const NAMES: [&CStr; 12] = [
        c"ok",
        c"bad argument",
        c"buffer too small",
        c"file error",
        c"not a model",
        c"out of memory",
        c"no such backend or device",
        c"device failed",
        c"cancelled",
        c"image not finite",
        c"pipeline in use",
        c"internal error",
    ];
    let name = usize::try_from(status).ok().and_then(|i| NAMES.get(i));
    name.map_or(c"unknown status", |name| name).as_ptr()
}
