use std::ffi::{c_char, c_void};
use std::sync::Arc;

use denoir::{AlignedBytes, Loading, Model};

use crate::context::{denoir_context, guard};
use crate::params::{self, Params};
use crate::pointers::{Buffer, copy_text, hand_out, reference, slice, string, take_back};
use crate::status::{Failure, Result, denoir_status};

/// An open, checked model file. Any number of pipelines and threads may share it.
#[derive(Debug)]
pub struct denoir_model(pub(crate) Arc<Model>);

/// A description of a model's images and conditions. Later versions add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_model_info {
    /// Bytes of this structure.
    pub struct_size: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Colour channels.
    pub channels: usize,
    /// Number of classes; 0 for a model that draws from a prompt.
    pub classes: usize,
    /// Number of tokens in a prompt embedding; 0 for a model that draws classes.
    pub text_tokens: usize,
    /// Number of values per token.
    pub text_width: usize,
}

// SAFETY: `repr(C)` of `usize`, with its size first.
unsafe impl Params for denoir_model_info {
    const NAME: &'static str = "the model's description";

    fn defaults() -> Self {
        let struct_size = size_of::<Self>();
        denoir_model_info { struct_size, width: 0, height: 0, channels: 0, classes: 0, text_tokens: 0, text_width: 0 }
    }
}

/// Opens a model file and reads it. The weights that are needed most are read by `denoir_pipeline_new`, straight into
/// their place, so that they are in memory only once; if the file has changed by then, that returns `DENOIR_ERROR_IO`.
/// Whatever happens to the file afterwards does no harm. On failure `*model` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_open(
    context: *mut denoir_context,
    path: *const c_char,
    model: *mut *mut denoir_model,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(model, || share(Model::open(string(path, "the path")?)))) }
}

/// Opens a model file by mapping it into memory: nothing is copied, and pages are read when they are needed.
///
/// DANGER: the file must not change while the model or a pipeline of it is in use. If anybody makes it shorter, the system
/// ends the whole process with SIGBUS; if anybody overwrites it, the images are of whatever it holds then. Replacing it by
/// renaming another file is harmless. On failure `*model` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_map(
    context: *mut denoir_context,
    path: *const c_char,
    model: *mut *mut denoir_model,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(model, || share(Model::load(string(path, "the path")?, Loading::Map)))) }
}

/// Opens a model from `len` bytes in memory. Bytes aligned to 64 are used in place: they must stay there, unchanged,
/// until the model and its pipelines are freed. Other bytes are copied. On failure `*model` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_open_memory(
    context: *mut denoir_context,
    bytes: *const c_void,
    len: usize,
    model: *mut *mut denoir_model,
) -> denoir_status {
    let open = || {
        // SAFETY: the caller's promise.
        let bytes: &[u8] = unsafe { slice(bytes.cast(), len, "the model's bytes")? };
        if !bytes.as_ptr().addr().is_multiple_of(64) {
            return share(AlignedBytes::copied(bytes).and_then(Model::from_bytes));
        }
        // SAFETY: they stay until the model and its pipelines are gone, by the caller's promise.
        share(Model::from_static(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(bytes) }))
    };
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(model, open)) }
}

/// Reads a model from an open file, like `denoir_model_open`. The caller still owns the descriptor and may close it after
/// the call; its position stays as it is. The model holds a descriptor of its own until it and its pipelines are freed.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_open_fd(
    context: *mut denoir_context,
    fd: i32,
    model: *mut *mut denoir_model,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(model, || from_descriptor(fd))) }
}

#[cfg(unix)]
fn from_descriptor(fd: i32) -> Result<denoir_model> {
    use std::os::fd::BorrowedFd;
    if fd < 0 {
        return Err(Failure::argument(format!("the descriptor is {fd}")));
    }
    // SAFETY: open for the time of the call, by the promise of `denoir_model_open_fd`.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let file = file.try_clone_to_owned().map_err(|e| denoir::Error::Io(format!("descriptor {fd}").into(), e))?;
    share(Model::from_file(&file.into()))
}

#[cfg(not(unix))]
fn from_descriptor(_fd: i32) -> Result<denoir_model> {
    Err(Failure::argument("this system has no file descriptors"))
}

fn share(model: std::result::Result<Model, denoir::Error>) -> Result<denoir_model> {
    Ok(denoir_model(Arc::new(model?)))
}

/// Frees a model; NULL does nothing. Pipelines of the model stay valid. No call may use the model at the same time or
/// afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_free(model: *mut denoir_model) {
    // SAFETY: the caller's promise.
    unsafe { take_back(model) }
}

/// Fills `info`, a structure of `size` bytes, with a description of the model.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_describe(
    context: *mut denoir_context,
    model: *const denoir_model,
    info: *mut denoir_model_info,
    size: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| {
            let network = reference(model, "the model")?.0.network();
            let (text_tokens, text_width) = network.text_size().unwrap_or_default();
            let described = denoir_model_info {
                struct_size: size,
                width: network.input_size(),
                height: network.input_size(),
                channels: network.channels(),
                classes: network.classes(),
                text_tokens,
                text_width,
            };
            params::write(described, info, size)
        })
    }
}

/// Looks up a class by number or name, ignoring case, and stores it in `*class_`.
///
/// Returns `DENOIR_OK`, or `DENOIR_ERROR_ARGUMENT` if an argument is wrong or the class does not exist.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_class(
    context: *mut denoir_context,
    model: *const denoir_model,
    number_or_name: *const c_char,
    class: *mut u32,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| {
            let model = &reference(model, "the model")?.0;
            let name = string(number_or_name, "the class's name")?;
            let found = model.class(name).ok_or_else(|| Failure::argument(format!("there is no class {name:?}")))?;
            Buffer::new(class, 1, "the place for the class")?.part(0, 1).fill(found);
            Ok(())
        })
    }
}

/// Copies the name of a class to `buffer`, cut to `size` bytes including a NUL. Returns the length of the whole name
/// without the NUL; 0 if the class has no name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_model_class_name(
    model: *const denoir_model,
    class: u32,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let name = unsafe { reference(model, "the model") }.ok();
    let name = name.and_then(|model| model.0.class_names().get(class as usize)).map_or("", String::as_str);
    // SAFETY: the caller's promise.
    unsafe { copy_text(name, buffer, size) }
}
