use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::params::{self, Params};
use crate::pointers::{self, reference, take_back};
use crate::status::denoir_status::{DENOIR_ERROR_INTERNAL, DENOIR_OK};
use crate::status::{Result, denoir_status};

/// What belongs to one caller: its callbacks and the message of its last failure. Threads that draw at once should each
/// have their own, so that each reads its own messages.
#[derive(Debug, Default)]
pub struct denoir_context {
    message: Mutex<String>,
    callbacks: Mutex<Option<denoir_callbacks>>,
    /// How often somebody asked to stop.
    cancels: AtomicUsize,
}

/// How far a call is; shown after every evaluation of the network. Later versions add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_progress {
    /// Bytes of this structure.
    pub struct_size: usize,
    /// Number of the first image of the batch under way.
    pub image: usize,
    /// Images in all.
    pub images: usize,
    /// Solver steps of this batch done.
    pub step: usize,
    /// Solver steps of this batch in all.
    pub steps: usize,
    /// Evaluations of this batch done.
    pub evaluation: usize,
    /// Evaluations of this batch in all.
    pub evaluations: usize,
    /// The predicted clean images, (batch, channels, height, width), about -1 to 1, valid during the callback. NULL unless
    /// `preview` was set in the callbacks.
    pub x_hat: *const f32,
    /// Images of this batch.
    pub batch: usize,
    /// Colour channels.
    pub channels: usize,
    /// Lines of an image.
    pub height: usize,
    /// Pixels of a line.
    pub width: usize,
}

/// Shown progress. Anything but 0 stops: the call returns `DENOIR_ERROR_CANCELLED`. A call of this library for the same
/// pipeline returns `DENOIR_ERROR_BUSY` here.
pub type denoir_progress_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const denoir_progress) -> i32>;

/// Told what the user should know, such as a device feature that is not used: a line without its end.
pub type denoir_log_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, line: *const c_char)>;

/// What a context calls, on the thread that called the library. Functions may be NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_callbacks {
    /// Bytes of this structure: `sizeof(denoir_callbacks)`.
    pub struct_size: usize,
    /// Passed to each.
    pub user_data: *mut c_void,
    /// Shown progress.
    pub progress: denoir_progress_callback,
    /// Told messages.
    pub log: denoir_log_callback,
    /// Not 0: `progress` is shown `x_hat`. Each evaluation then waits for the device and copies the images.
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

    /// How often somebody asked to stop: more than when a call began, and it should.
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

    fn keep(&self, message: String) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }
}

/// Runs what a call does: failures go to the context, and no panic goes to C.
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
            context.keep(failure.message);
            failure.status
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            context.keep(format!("a fault of the library: {text}"));
            DENOIR_ERROR_INTERNAL
        }
    }
}

/// A new context. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn denoir_context_new() -> *mut denoir_context {
    Box::into_raw(Box::default())
}

/// Frees a context; NULL does nothing. The caller must not use it afterwards, nor while another call does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_context_free(context: *mut denoir_context) {
    // SAFETY: the caller's promise.
    unsafe { take_back(context) }
}

/// Copies the message of the context's last failure, as much of it as fits into `size` bytes, and a NUL. Returns the length
/// of the whole message without the NUL: a call with size 0 tells how much room it takes.
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

/// Sets the context's callbacks, or takes them away with NULL. A call that is under way keeps those that it began with. The
/// caller must keep alive what `user_data` points to, for as long as the callbacks are set or such a call runs.
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

/// Stops the drawings that are under way with this context, from any thread: each returns `DENOIR_ERROR_CANCELLED` after
/// the evaluation that it is at. Where none is under way, and for NULL, it does nothing: it never stops a later call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_cancel(context: *const denoir_context) {
    // SAFETY: the caller's promise.
    if let Ok(context) = unsafe { reference(context, "the context") } {
        context.cancels.fetch_add(1, Ordering::Relaxed);
    }
}
