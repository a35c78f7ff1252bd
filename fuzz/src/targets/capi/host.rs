//! The host: its handles, its callbacks, and every call but those that draw.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use denoir::AlignedBytes;
use denoir_capi::denoir_status::*;
use denoir_capi::*;

use crate::input::Input;
use crate::targets::gguf::{FILLER, fill};

/// Values of the embeddings in a request.
pub(super) const EMBEDS: usize = 64;
/// Headers of models; weights are added.
const MODELS: [&[u8]; 2] =
    [include_bytes!("../../../corpus/gguf/seed-jit-f32"), include_bytes!("../../../corpus/gguf/seed-t2i-f32")];

/// Handles, NULL or valid.
pub(super) struct Host<'i> {
    pub(super) input: RefCell<Input<'i>>,
    contexts: [Cell<*mut denoir_context>; 2],
    pub(super) models: [Cell<*mut denoir_model>; 2],
    pub(super) pipelines: [Cell<*mut denoir_pipeline>; 2],
    /// What draws. It is given, because it knows this file.
    draw: fn(&Host<'i>),
    /// The drawing calls that run, the outermost first.
    pub(super) running: RefCell<Vec<Running>>,
}

/// A drawing call.
pub(super) struct Running {
    pub(super) context: *mut denoir_context,
    pub(super) pipeline: *mut denoir_pipeline,
    /// Whether somebody asked it to stop.
    pub(super) is_stopped: bool,
}

impl<'i> Host<'i> {
    pub(super) fn new(input: Input<'i>, draw: fn(&Host<'i>)) -> Host<'i> {
        Host {
            input: RefCell::new(input),
            contexts: [denoir_context_new(), null_mut()].map(Cell::new),
            models: [null_mut(); 2].map(Cell::new),
            pipelines: [null_mut(); 2].map(Cell::new),
            draw,
            running: RefCell::default(),
        }
    }

    pub(super) fn below(&self, n: usize) -> usize {
        self.input.borrow_mut().below(n)
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        self.input.borrow_mut().pick(from)
    }

    pub(super) fn any<T>(&self, handles: &[Cell<*mut T>]) -> *mut T {
        match self.below(16) {
            15 => null_mut(),
            // The first is there most often.
            i => handles[i / 10 % handles.len()].get(),
        }
    }

    pub(super) fn context(&self) -> *mut denoir_context {
        self.any(&self.contexts)
    }

    fn uses_context(&self, context: *mut denoir_context) -> bool {
        self.running.borrow().iter().any(|call| call.context == context)
    }

    pub(super) fn uses_pipeline(&self, pipeline: *mut denoir_pipeline) -> bool {
        self.running.borrow().iter().any(|call| call.pipeline == pipeline)
    }

    /// One call.
    pub(super) fn call(&self) {
        match self.below(14) {
            0 | 1 => self.open_model(),
            2 | 3 => self.new_pipeline(),
            4..=6 => (self.draw)(self),
            7 => self.set_callbacks(),
            8 => self.cancel(),
            9 => self.describe(),
            10 => self.message(),
            11 => self.look_up(),
            12 => self.other(),
            _ => self.free(),
        }
    }

    /// Stops the calls that run with a context; no later one.
    fn cancel(&self) {
        let context = self.context();
        let mut running = self.running.borrow_mut();
        running.iter_mut().filter(|call| call.context == context).for_each(|call| call.is_stopped = true);
        // SAFETY: NULL or valid.
        unsafe { denoir_cancel(context) }
    }

    fn open_model(&self) {
        let place = &self.models[self.below(2)];
        if !place.get().is_null() {
            return;
        }
        let model = &model_files()[self.below(2)];
        let mut damaged = vec![0; model.as_slice().len() + 1];
        let (bytes, len) = match self.below(4) {
            0 | 1 => (model.as_slice().as_ptr(), model.as_slice().len()),
            2 => (null(), self.below(2)),
            _ => {
                // Not aligned, so the library copies it.
                damaged[1..].copy_from_slice(model.as_slice());
                let at = self.input.borrow_mut().u32() as usize % damaged.len();
                damaged[at] ^= self.input.borrow_mut().byte();
                (damaged[1..].as_ptr(), damaged.len() - 1 - self.below(2))
            }
        };
        let mut opened = null_mut();
        // SAFETY: `len` bytes or NULL; those of an aligned model are static.
        let status = unsafe { denoir_model_open_memory(self.context(), bytes.cast(), len, &mut opened) };
        self.check(status, opened);
        place.set(opened);
        let mut info = denoir_model_info {
            struct_size: 0,
            width: 0,
            height: 0,
            channels: 0,
            classes: 0,
            text_tokens: 0,
            text_width: 0,
        };
        // SAFETY: NULL or valid, and a place of this size.
        unsafe {
            denoir_model_describe(self.contexts[0].get(), opened, &mut info, size_of::<denoir_model_info>());
            // Damage may have made it too large to draw quickly, or for the embeddings that the requests have.
            if info.width * info.height > 64 || info.text_tokens * info.text_width > EMBEDS {
                denoir_model_free(place.replace(null_mut()));
            }
        }
    }

    fn new_pipeline(&self) {
        let place = &self.pipelines[self.below(2)];
        if !place.get().is_null() {
            return;
        }
        let mut params = zeroed_params();
        // SAFETY: the place has this size.
        let status = unsafe { denoir_pipeline_params_init(&mut params, size_of::<denoir_pipeline_params>()) };
        assert_eq!(status, DENOIR_OK);
        params.backend = self.pick(&[1, 1, 1, 4, -1]);
        params.device = self.pick(&[-1, -1, 0, 1]);
        params.threads = self.pick(&[1, 1, 2]);
        params.batch = self.pick(&[0, 1, 2, 3, u32::MAX]);
        params.isa = self.pick(&[c"scalar", c"scalar", c"avx2", c"", c"none"]).as_ptr();
        let mut made = null_mut();
        // SAFETY: NULL or valid.
        let status = unsafe { denoir_pipeline_new(self.context(), self.any(&self.models), &params, &mut made) };
        self.check(status, made);
        place.set(made);
    }

    fn set_callbacks(&self) {
        let callbacks = denoir_callbacks {
            struct_size: size_of::<denoir_callbacks>(),
            user_data: (&raw const *self).cast_mut().cast(),
            progress: self
                .pick(&[None, Some(progress as unsafe extern "C" fn(*mut c_void, *const denoir_progress) -> i32)]),
            log: self.pick(&[None, Some(log as unsafe extern "C" fn(*mut c_void, *const c_char))]),
            preview: self.pick(&[0, 1]),
        };
        let given = if self.below(4) == 3 { null() } else { &raw const callbacks };
        // SAFETY: NULL or valid; the host outlives all calls.
        self.check(unsafe { denoir_context_set_callbacks(self.context(), given) }, ());
    }

    fn describe(&self) {
        let size = self.pick(&[size_of::<denoir_model_info>(), 8, 7, 0, 24, 100]);
        // As many bytes as are said, and aligned.
        let mut info = vec![0usize; size.div_ceil(size_of::<usize>())].into_boxed_slice();
        let place: *mut denoir_model_info = if size == 0 { null_mut() } else { info.as_mut_ptr().cast() };
        // SAFETY: NULL or valid.
        let status = unsafe { denoir_model_describe(self.context(), self.any(&self.models), place, size) };
        self.check(status, ());
    }

    fn message(&self) {
        let size = self.below(200);
        let mut buffer = vec![1 as c_char; size].into_boxed_slice();
        // SAFETY: `size` writable bytes.
        let whole = unsafe { denoir_context_message(self.context(), buffer.as_mut_ptr(), size) };
        if size > 0 {
            let text = buffer.iter().position(|c| *c == 0).expect("a text ends");
            assert!(text <= whole, "no more than the message");
        }
    }

    fn look_up(&self) {
        let text = self.input.borrow_mut().bytes(5).to_vec();
        let text = CString::new(text).unwrap_or_default();
        let model = self.any(&self.models);
        let mut class = u32::MAX;
        // SAFETY: NULL or valid.
        let status = unsafe { denoir_model_class(self.context(), model, text.as_ptr(), &mut class) };
        self.check(status, ());
        let mut name = [1 as c_char; 9];
        // SAFETY: valid, and as many bytes as are said.
        let len = unsafe { denoir_model_class_name(model, class, name.as_mut_ptr(), name.len()) };
        assert!(name.contains(&0) && len < 1 << 20);
    }

    /// Calls without state.
    fn other(&self) {
        let context = self.context();
        let mut list = null_mut();
        let mut values = vec![f32::NAN; self.below(40)];
        let (kind, seed) = (self.pick(&[0, 1, 2, -1]), self.input.borrow_mut().u64());
        // SAFETY: NULL or valid, and of the lengths that are said.
        unsafe {
            self.check(denoir_noise(context, kind, seed, values.as_mut_ptr(), values.len()), ());
            assert!(!CStr::from_ptr(denoir_status_name(self.pick(&[0, 11, 12, -1]))).is_empty());
            assert!(!CStr::from_ptr(denoir_version()).is_empty());
            let path = self.pick(&[c"/nonexistent", c"/dev/null", c"/"]);
            let mut encoder = null_mut();
            let status = denoir_text_encoder_open(context, path.as_ptr(), &mut encoder);
            assert!(status != DENOIR_OK && encoder.is_null());
            if self.below(8) == 7 {
                self.check(denoir_device_list_new(context, &mut list), list);
                denoir_device_list_free(list);
            }
        }
    }

    /// Frees a handle that no call uses.
    fn free(&self) {
        let i = self.below(2);
        // SAFETY: NULL or valid, in use by no call, and forgotten.
        unsafe {
            match self.below(3) {
                0 if !self.uses_context(self.contexts[i].get()) => {
                    denoir_context_free(self.contexts[i].replace(denoir_context_new()));
                }
                1 => denoir_model_free(self.models[i].replace(null_mut())),
                2 if !self.uses_pipeline(self.pipelines[i].get()) => {
                    denoir_pipeline_free(self.pipelines[i].replace(null_mut()));
                }
                _ => {}
            }
        }
    }

    /// What holds after every call: no fault of the library; a handle comes with success.
    pub(super) fn check<T: Handle>(&self, status: denoir_status, handle: T) {
        assert_ne!(status, DENOIR_ERROR_INTERNAL, "a fault of the library");
        assert!(handle.is_given().is_none_or(|given| given == (status == DENOIR_OK)), "{status:?}");
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // SAFETY: NULL or valid, and no call runs.
        unsafe {
            self.models.iter().for_each(|model| denoir_model_free(model.get()));
            self.pipelines.iter().for_each(|pipeline| denoir_pipeline_free(pipeline.get()));
            self.contexts.iter().for_each(|context| denoir_context_free(context.get()));
        }
    }
}

/// What a call hands out.
pub(super) trait Handle {
    fn is_given(&self) -> Option<bool>;
}

impl Handle for () {
    fn is_given(&self) -> Option<bool> {
        None
    }
}

impl<T> Handle for *mut T {
    fn is_given(&self) -> Option<bool> {
        Some(!self.is_null())
    }
}

/// Progress: goes on, stops, cancels, or calls the library again.
unsafe extern "C" fn progress(user_data: *mut c_void, progress: *const denoir_progress) -> i32 {
    // SAFETY: `set_callbacks` passed the host, which is alive and shared.
    let host = unsafe { &*user_data.cast::<Host<'_>>() };
    // SAFETY: valid during the callback.
    let progress = unsafe { &*progress };
    assert!(progress.evaluation <= progress.evaluations && progress.image < progress.images);
    if !progress.x_hat.is_null() {
        let len = progress.batch * progress.channels * progress.height * progress.width;
        // SAFETY: as many values as the library says.
        let x_hat = unsafe { std::slice::from_raw_parts(progress.x_hat, len) };
        std::hint::black_box(x_hat.iter().sum::<f32>());
    }
    let depth = host.running.borrow().len();
    match host.below(12) {
        0 => {
            host.running.borrow_mut().last_mut().expect("a call that runs").is_stopped = true;
            1
        }
        1..=3 if depth < 3 => {
            host.call();
            0
        }
        _ => 0,
    }
}

unsafe extern "C" fn log(user_data: *mut c_void, line: *const c_char) {
    // SAFETY: as in `progress`.
    let (host, line) = unsafe { (&*user_data.cast::<Host<'_>>(), CStr::from_ptr(line)) };
    assert!(!line.is_empty() && host.running.borrow().len() < 9);
}

/// The models, aligned, with weights.
fn model_files() -> &'static [AlignedBytes; 2] {
    static FILES: OnceLock<[AlignedBytes; 2]> = OnceLock::new();
    FILES.get_or_init(|| {
        MODELS.map(|header| {
            let mut file = AlignedBytes::zeroed(header.len() + FILLER).expect("memory");
            fill(file.as_mut_slice(), header);
            file
        })
    })
}

fn zeroed_params() -> denoir_pipeline_params {
    let (isa, cuda_stream) = (null(), null_mut());
    denoir_pipeline_params { struct_size: 0, backend: 0, device: 0, threads: 0, batch: 0, isa, cuda_stream }
}
