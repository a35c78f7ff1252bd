use std::ffi::{CStr, c_char};

use denoir::core::{ModelError, RunError};
use denoir::{DeviceError, Error};

/// How a call ended. The context has the words: `denoir_context_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_status {
    /// It did what was asked.
    DENOIR_OK = 0,
    /// An argument is missing, out of range or contradicts another.
    DENOIR_ERROR_ARGUMENT = 1,
    /// A buffer is smaller than what goes into it.
    DENOIR_ERROR_BUFFER = 2,
    /// A file could not be opened or read.
    DENOIR_ERROR_IO = 3,
    /// A file or bytes hold no model that denoir runs.
    DENOIR_ERROR_MODEL = 4,
    /// The machine or the device has too little memory.
    DENOIR_ERROR_MEMORY = 5,
    /// There is no such backend or device.
    DENOIR_ERROR_BACKEND = 6,
    /// The device failed; a new pipeline may work.
    DENOIR_ERROR_DEVICE = 7,
    /// A callback or `denoir_cancel` asked to stop.
    DENOIR_ERROR_CANCELLED = 8,
    /// The image holds an infinity or NaN: the weights are damaged or overflow their type.
    DENOIR_ERROR_NOT_FINITE = 9,
    /// The pipeline is in use by another call.
    DENOIR_ERROR_BUSY = 10,
    /// A fault of the library itself; the handles of the call should be freed.
    DENOIR_ERROR_INTERNAL = 11,
}

use denoir_status::*;

/// A status and its words.
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
        Error::Model(..) | Error::Preset(_) | Error::Tokenizer(..) => DENOIR_ERROR_MODEL,
        Error::Memory(_) | Error::Threads(_) => DENOIR_ERROR_MEMORY,
        Error::Backend(_) => DENOIR_ERROR_BACKEND,
        Error::Device(e) => status_of_device(e),
        Error::Run(RunError::Cancelled) => DENOIR_ERROR_CANCELLED,
        Error::Run(RunError::NotFinite) => DENOIR_ERROR_NOT_FINITE,
        Error::Run(RunError::Op(denoir::core::backend::OpError::Device(e))) => status_of_device(e),
        Error::Run(RunError::Op(_)) => DENOIR_ERROR_INTERNAL,
        Error::Plan(_) | Error::Condition(_) | Error::Prompt(_) | Error::Encode(_) | Error::Run(_) => {
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

/// A status as a word, such as `cancelled`; never NULL.
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
