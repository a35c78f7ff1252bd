use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::params::{self, Params};
use crate::pointers::{self, reference, take_back};
use crate::status::denoir_status::{DENOIR_ERROR_INTERNAL, DENOIR_OK};
use crate::status::{Result, denoir_status};

/// The state of one caller: its callbacks and its last error message. Give each thread its own context, so that each
/// reads its own messages.
#[derive(Debug, Default)]
pub struct denoir_context {
    message: Mutex<String>,
    callbacks: Mutex<Option<denoir_callbacks>>,
    /// Number of cancellation requests so far.
    cancels: AtomicUsize,
}

/// The progress of a call, reported after every evaluation of the network. Later versions add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_progress {
    /// Bytes of this structure.
    pub struct_size: usize,
    /// Index of the first image of the current batch.
    pub image: usize,
    /// Total number of images.
    pub images: usize,
    /// Solver steps of this batch that are done.
    pub step: usize,
    /// Total solver steps of this batch.
    pub steps: usize,
    /// Evaluations of this batch that are done.
    pub evaluation: usize,
    /// Total evaluations of this batch.
    pub evaluations: usize,
    /// The predicted clean images, (batch, channels, height, width), about -1 to 1, valid during the callback. NULL
    /// unless `preview` was set in the callbacks.
    pub x_hat: *const f32,
    /// Number of images in this batch.
    pub batch: usize,
    /// Colour channels.
    pub channels: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
}

/// Receives progress. Return 0 to continue; any other value makes the call return `DENOIR_ERROR_CANCELLED`. Inside the
/// callback, calls with the same pipeline return `DENOIR_ERROR_BUSY`; other pipelines may draw, also with the same
/// context. Handles of the call must not be freed there.
pub type denoir_progress_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const denoir_progress) -> i32>;

/// Receives warnings for the user, such as an unused device feature: one line, without a newline.
pub type denoir_log_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, line: *const c_char)>;

/// The callbacks of a context. They run on the thread that called the library, and may be NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_callbacks {
    /// Bytes of this structure: `sizeof(denoir_callbacks)`.
    pub struct_size: usize,
    /// Passed to each callback.
    pub user_data: *mut c_void,
    /// Receives progress.
    pub progress: denoir_progress_callback,
    /// Receives warnings.
    pub log: denoir_log_callback,
    /// If not 0, `progress` receives `x_hat`; each evaluation then waits for the device and copies the images.
    pub preview: i32,
}

// SAFETY: a context is used from threads that the program chooses; what `user_data` points to is the program's own, and
// the header says on which thread it is used.
unsafe impl Send for denoir_callbacks {}

// SAFETY: `repr(C)` of pointers, with its size first.
unsafe impl Params for denoir_callbacks {
    const NAME: &'static str = "the callbacks";

    fn defaults() -> Self {
        denoir_callbacks {
            struct_size: size_of::<Self>(),
            user_data: std::ptr::null_mut(),
            progress: None,
            log: None,
            preview: 0,
        }
    }
}

impl denoir_context {
    pub(crate) fn callbacks(&self) -> denoir_callbacks {
        let callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        callbacks.unwrap_or_else(denoir_callbacks::defaults)
    }

    /// Number of cancellation requests so far. A call stops when this exceeds the number at its start.
    pub(crate) fn cancels(&self) -> usize {
        self.cancels.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self, line: &str) {
        let callbacks = self.callbacks();
        if let (Some(log), Ok(line)) = (callbacks.log, CString::new(line)) {
            // SAFETY: the program gave the function together with its `user_data`.
            unsafe { log(callbacks.user_data, line.as_ptr()) };
        }
    }

    /// Copies the message to memory that the context has, where it fits: memory may be short.
    fn keep(&self, message: &str) {
        let mut kept = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        if kept.try_reserve(message.len()).is_ok() {
            kept.push_str(message);
        }
    }
}

/// Runs the body of a call. Stores failures in the context and lets no panic reach C.
///
/// # Safety
/// `context` is NULL or a context.
pub(crate) unsafe fn guard(
    context: *const denoir_context,
    call: impl FnOnce(&denoir_context) -> Result<()>,
) -> denoir_status {
    // SAFETY: the caller promises that the context is a live handle or NULL.
    let context = match unsafe { reference(context, "the context") } {
        Ok(context) => context,
        Err(failure) => return failure.status,
    };
    match catch_unwind(AssertUnwindSafe(|| call(context))) {
        Ok(Ok(())) => DENOIR_OK,
        Ok(Err(failure)) => {
            context.keep(&failure.message);
            failure.status
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            context.keep(&format!("a fault of the library: {text}"));
            DENOIR_ERROR_INTERNAL
        }
    }
}

/// Creates a context. Returns NULL if there is no memory for it.
#[unsafe(no_mangle)]
pub extern "C" fn denoir_context_new() -> *mut denoir_context {
    /// Bytes of most messages.
    const MESSAGE: usize = 256;
    let mut message = String::new();
    if message.try_reserve(MESSAGE).is_err() {
        return std::ptr::null_mut();
    }
    let context = denoir_context { message: Mutex::new(message), ..denoir_context::default() };
    pointers::handle(context).unwrap_or(std::ptr::null_mut())
}

/// Frees a context; NULL does nothing. No call may use the context at the same time or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_context_free(context: *mut denoir_context) {
    // SAFETY: the caller's promise.
    unsafe { take_back(context) }
}

/// Copies the context's last error message to `buffer`, cut to `size` bytes including a NUL. Returns the length of the
/// whole message without the NUL; call with size 0 to find out how much room it needs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_context_message(
    context: *const denoir_context,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller's promise.
    match unsafe { reference(context, "the context") } {
        Ok(context) => {
            let message = context.message.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the caller's promise.
            unsafe { pointers::copy_text(&message, buffer, size) }
        }
        // SAFETY: the caller's promise.
        Err(failure) => unsafe { pointers::copy_text(&failure.message, buffer, size) },
    }
}

/// Sets the context's callbacks; NULL removes them. A running call keeps the callbacks that it started with.
/// `user_data` must stay valid while the callbacks are set or such a call runs.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_context_set_callbacks(
    context: *mut denoir_context,
    callbacks: *const denoir_callbacks,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |context| {
            let new = if callbacks.is_null() { None } else { Some(params::read(callbacks)?) };
            *context.callbacks.lock().unwrap_or_else(PoisonError::into_inner) = new;
            Ok(())
        })
    }
}

/// Stops the context's running drawing calls, from any thread: each returns `DENOIR_ERROR_CANCELLED` after its current
/// evaluation. Does nothing if none is running or `context` is NULL, and never stops a later call, even one that a
/// callback of a stopped call begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_cancel(context: *const denoir_context) {
    // SAFETY: the caller's promise.
    if let Ok(context) = unsafe { reference(context, "the context") } {
        context.cancels.fetch_add(1, Ordering::Relaxed);
    }
}
