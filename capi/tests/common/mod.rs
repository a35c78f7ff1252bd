//! What the test programs share: handles, made as C makes them.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this one and uses some of it")]

pub mod soak;

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr::null_mut;

use denoir_capi::denoir_status::*;
use denoir_capi::*;

/// A network of a few kilobytes.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bare/tiny.gguf");
/// The demo model.
pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/emoji.gguf");

pub type Open = unsafe extern "C" fn(*mut denoir_context, *const c_char, *mut *mut denoir_model) -> denoir_status;

/// What drawing needs; freed at the end. A handle that could not be made is NULL.
pub struct Host {
    pub context: *mut denoir_context,
    pub model: *mut denoir_model,
    pub pipeline: *mut denoir_pipeline,
}

impl Host {
    /// A context and a model.
    pub fn open(path: &Path, open: Open) -> (Host, denoir_status) {
        let mut host = Host { context: denoir_context_new(), model: null_mut(), pipeline: null_mut() };
        let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the handles and places are valid, or NULL, which is an error.
        let opened = unsafe { open(host.context, path.as_ptr(), &mut host.model) };
        (host, opened)
    }

    /// A pipeline on the processor.
    pub fn prepare(&mut self, threads: u32) -> denoir_status {
        self.prepare_with(|params| {
            (params.backend, params.threads) = (denoir_backend::DENOIR_BACKEND_CPU as i32, threads);
        })
    }

    /// A pipeline with these changes to the defaults.
    pub fn prepare_with(&mut self, change: impl FnOnce(&mut denoir_pipeline_params)) -> denoir_status {
        let mut params = MaybeUninit::uninit();
        // SAFETY: the handles are valid, or NULL, which is an error; `init` fills all of the structure.
        unsafe {
            assert_eq!(
                denoir_pipeline_params_init(params.as_mut_ptr(), size_of::<denoir_pipeline_params>()),
                DENOIR_OK
            );
            let mut params = params.assume_init();
            change(&mut params);
            denoir_pipeline_new(self.context, self.model, &params, &mut self.pipeline)
        }
    }

    /// All of it, which must succeed.
    pub fn new(path: &str, threads: u32) -> Host {
        let (mut host, opened) = Host::open(Path::new(path), denoir_model_open);
        assert_eq!(opened, DENOIR_OK, "{}", host.message());
        assert_eq!(host.prepare(threads), DENOIR_OK, "{}", host.message());
        host
    }

    /// A request for one image in a few steps.
    pub fn request(&self) -> denoir_request {
        let mut request = MaybeUninit::uninit();
        // SAFETY: a valid model; `init` fills all of the structure.
        let mut request: denoir_request = unsafe {
            assert_eq!(denoir_request_init(request.as_mut_ptr(), size_of::<denoir_request>(), self.model), DENOIR_OK);
            request.assume_init()
        };
        request.steps = 2;
        request
    }

    /// Bytes of so many images.
    pub fn pixels(&self, images: usize) -> Vec<u8> {
        // SAFETY: a valid model.
        vec![0; unsafe { denoir_pixels_size(self.model, images, 0) }]
    }

    pub fn generate(&self, request: &denoir_request, pixels: &mut [u8]) -> denoir_status {
        // SAFETY: all handles and places are valid.
        unsafe { denoir_generate(self.context, self.pipeline, request, pixels.as_mut_ptr(), pixels.len(), 0) }
    }

    /// One image; it must succeed.
    pub fn draw(&self) -> Vec<u8> {
        let mut pixels = self.pixels(1);
        assert_eq!(self.generate(&self.request(), &mut pixels), DENOIR_OK, "{}", self.message());
        pixels
    }

    /// Shows progress to `progress` with this user data; the data must live as long.
    pub fn observe<T>(&self, progress: denoir_progress_callback, user_data: &mut T) {
        let user_data = std::ptr::from_mut(user_data).cast();
        let struct_size = size_of::<denoir_callbacks>();
        let callbacks = denoir_callbacks { struct_size, user_data, progress, log: None, preview: 0 };
        // SAFETY: a valid context and structure.
        assert_eq!(unsafe { denoir_context_set_callbacks(self.context, &callbacks) }, DENOIR_OK);
    }

    /// The context's last message.
    pub fn message(&self) -> String {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: a context or NULL, and a buffer of this size, which begins with a string even if nothing is written.
        unsafe {
            denoir_context_message(self.context, buffer.as_mut_ptr(), buffer.len());
            CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned()
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: made by the library, or NULL, and used by nobody any more.
        unsafe {
            denoir_pipeline_free(self.pipeline);
            denoir_model_free(self.model);
            denoir_context_free(self.context);
        }
    }
}
