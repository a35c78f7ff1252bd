//! The C functions, called as C calls them.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use denoir_capi::denoir_status::*;
use denoir_capi::*;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/emoji.gguf");

/// What most tests need; freed at the end.
struct Handles {
    context: *mut denoir_context,
    model: *mut denoir_model,
    pipeline: *mut denoir_pipeline,
}

impl Handles {
    fn new() -> Handles {
        let mut handles = Handles { context: denoir_context_new(), model: null_mut(), pipeline: null_mut() };
        let path = CString::new(MODEL).unwrap();
        let mut params = params();
        params.backend = denoir_backend::DENOIR_BACKEND_CPU as i32;
        params.threads = 1;
        // SAFETY: all handles and places are valid.
        unsafe {
            assert_eq!(denoir_model_open(handles.context, path.as_ptr(), &mut handles.model), DENOIR_OK);
            let made = denoir_pipeline_new(handles.context, handles.model, &params, &mut handles.pipeline);
            assert_eq!(made, DENOIR_OK, "{}", message(handles.context));
        }
        handles
    }

    fn request(&self) -> denoir_request {
        let mut request = std::mem::MaybeUninit::uninit();
        // SAFETY: the place has the size that is said; `init` fills all of it.
        let mut request: denoir_request = unsafe {
            assert_eq!(denoir_request_init(request.as_mut_ptr(), size_of::<denoir_request>(), self.model), DENOIR_OK);
            request.assume_init()
        };
        request.steps = 2;
        request
    }

    fn pixels(&self) -> Vec<u8> {
        // SAFETY: a valid model.
        vec![0; unsafe { denoir_pixels_size(self.model, 1, 0) }]
    }

    fn generate(&self, request: &denoir_request, pixels: &mut [u8], row_stride: usize) -> denoir_status {
        // SAFETY: all handles and places are valid.
        unsafe { denoir_generate(self.context, self.pipeline, request, pixels.as_mut_ptr(), pixels.len(), row_stride) }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: made by the library, and used by nobody any more.
        unsafe {
            denoir_pipeline_free(self.pipeline);
            denoir_model_free(self.model);
            denoir_context_free(self.context);
        }
    }
}

fn params() -> denoir_pipeline_params {
    let mut params = std::mem::MaybeUninit::uninit();
    // SAFETY: the place has the size that is said; `init` fills all of it.
    unsafe {
        assert_eq!(denoir_pipeline_params_init(params.as_mut_ptr(), size_of::<denoir_pipeline_params>()), DENOIR_OK);
        params.assume_init()
    }
}

fn message(context: *const denoir_context) -> String {
    let mut buffer = [0 as c_char; 512];
    // SAFETY: a valid context and buffer.
    unsafe {
        denoir_context_message(context, buffer.as_mut_ptr(), buffer.len());
        CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned()
    }
}

#[test]
fn lines_keep_their_stride_and_floats_agree() {
    let h = Handles::new();
    let request = h.request();
    let mut tight = h.pixels();
    assert_eq!(h.generate(&request, &mut tight, 0), DENOIR_OK, "{}", message(h.context));
    assert!(tight.iter().any(|&x| x != tight[0]), "a picture");

    let mut info = std::mem::MaybeUninit::<denoir_model_info>::uninit();
    // SAFETY: valid handles; the place has the size that is said.
    let info = unsafe {
        denoir_model_describe(h.context, h.model, info.as_mut_ptr(), size_of::<denoir_model_info>());
        info.assume_init()
    };
    let (line, stride) = (info.width * info.channels, info.width * info.channels + 7);
    let mut wide = vec![9; info.height * stride];
    assert_eq!(h.generate(&request, &mut wide, stride), DENOIR_OK);
    for (wide, tight) in wide.chunks(stride).zip(tight.chunks(line)) {
        assert_eq!((&wide[..line], &wide[line..]), (tight, &[0; 7][..]));
    }

    let mut samples = vec![f32::NAN; info.channels * info.height * info.width];
    // SAFETY: valid handles and places.
    let drawn = unsafe { denoir_generate_f32(h.context, h.pipeline, &request, samples.as_mut_ptr(), samples.len()) };
    assert_eq!(drawn, DENOIR_OK);
    let first = denoir::Model::open(MODEL).unwrap().rounding().to_u8(samples[0]);
    assert_eq!(first, tight[0]);
}

#[test]
fn memory_and_descriptors_hold_the_same_model() {
    let h = Handles::new();
    let bytes = std::fs::read(MODEL).unwrap();
    let file = std::fs::File::open(MODEL).unwrap();
    let mut pixels = h.pixels();
    assert_eq!(h.generate(&h.request(), &mut pixels, 0), DENOIR_OK);
    // Once where it is used in place, once where it is copied.
    let aligned = denoir::AlignedBytes::copied(&bytes).unwrap();
    let shifted = [&[0], &bytes[..]].concat();
    for source in [aligned.as_slice(), &shifted[1..], &[]] {
        let (mut model, mut pipeline) = (null_mut(), null_mut());
        // SAFETY: valid places; the bytes outlive the model.
        unsafe {
            let opened = if source.is_empty() {
                denoir_model_open_fd(h.context, std::os::fd::AsRawFd::as_raw_fd(&file), &mut model)
            } else {
                denoir_model_open_memory(h.context, source.as_ptr().cast(), source.len(), &mut model)
            };
            assert_eq!(opened, DENOIR_OK, "{}", message(h.context));
            let mut params = params();
            params.backend = denoir_backend::DENOIR_BACKEND_CPU as i32;
            assert_eq!(denoir_pipeline_new(h.context, model, &params, &mut pipeline), DENOIR_OK);
            // The pipeline keeps the model.
            denoir_model_free(model);
            let mut same = h.pixels();
            let (to, size) = (same.as_mut_ptr(), same.len());
            assert_eq!(denoir_generate(h.context, pipeline, &h.request(), to, size, 0), DENOIR_OK);
            denoir_pipeline_free(pipeline);
            assert!(same == pixels);
        }
    }
}

#[test]
fn wrong_arguments_are_told_and_write_nothing() {
    let h = Handles::new();
    let request = h.request();
    let mut pixels = vec![7; h.pixels().len() - 1];
    assert_eq!(h.generate(&request, &mut pixels, 0), DENOIR_ERROR_BUFFER);
    assert!(message(h.context).contains("the images take"), "{}", message(h.context));
    assert!(pixels.iter().all(|&x| x == 7));
    let mut pixels = h.pixels();
    type Change = fn(&mut denoir_request);
    let cases: [(&str, Change, denoir_status); 7] = [
        ("struct_size", |r| r.struct_size = 0, DENOIR_ERROR_ARGUMENT),
        ("steps", |r| r.steps = 0, DENOIR_ERROR_ARGUMENT),
        ("method", |r| r.method = 77, DENOIR_ERROR_ARGUMENT),
        ("noise", |r| r.rng = -1, DENOIR_ERROR_ARGUMENT),
        ("scale", |r| r.cfg_scale = f64::NAN, DENOIR_ERROR_ARGUMENT),
        ("images", |r| r.images = usize::MAX, DENOIR_ERROR_ARGUMENT),
        ("images", |r| r.images = 1 << 40, DENOIR_ERROR_BUFFER),
    ];
    for (word, change, status) in cases {
        let mut request = request;
        change(&mut request);
        assert_eq!(h.generate(&request, &mut pixels, 0), status, "{word}");
        assert!(message(h.context).contains(word), "{word}: {}", message(h.context));
    }
    let class = [u32::MAX];
    assert_eq!(
        h.generate(&denoir_request { classes: class.as_ptr(), ..request }, &mut pixels, 0),
        DENOIR_ERROR_ARGUMENT
    );
    assert_eq!(h.generate(&request, &mut pixels, 1), DENOIR_ERROR_ARGUMENT);
    assert!(message(h.context).contains("stride"));
}

#[test]
fn null_is_an_error_everywhere() {
    let h = Handles::new();
    let mut model = null_mut();
    // SAFETY: NULL is what is tested; all else is valid.
    unsafe {
        assert_eq!(denoir_model_open(null_mut(), null(), &mut model), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_model_open(h.context, null(), &mut model), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_model_open(h.context, c"none.gguf".as_ptr(), null_mut()), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_model_open(h.context, c"none.gguf".as_ptr(), &mut model), DENOIR_ERROR_IO);
        assert!(model.is_null() && message(h.context).contains("none.gguf"));
        assert_eq!(denoir_model_open_memory(h.context, null(), 5, &mut model), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_model_open_memory(h.context, b"GGUF".as_ptr().cast(), 4, &mut model), DENOIR_ERROR_MODEL);
        assert_eq!(denoir_model_open_fd(h.context, -1, &mut model), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_model_open_fd(h.context, 1 << 20, &mut model), DENOIR_ERROR_IO);
        let mut pipeline = null_mut();
        assert_eq!(denoir_pipeline_new(h.context, null(), null(), &mut pipeline), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_generate(h.context, null_mut(), null(), null_mut(), 0, 0), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_generate(h.context, h.pipeline, null(), null_mut(), 0, 0), DENOIR_ERROR_ARGUMENT);
        let request = h.request();
        let size = h.pixels().len();
        assert_eq!(denoir_generate(h.context, h.pipeline, &request, null_mut(), size, 0), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_device_list_new(h.context, null_mut()), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_device_list_count(null()), 0);
        assert_eq!(denoir_device_list_describe(h.context, null(), 0, null_mut(), 0), DENOIR_ERROR_ARGUMENT);
        assert_eq!(denoir_context_message(null(), null_mut(), 0), "the context is NULL".len());
        denoir_context_free(null_mut());
        denoir_model_free(null_mut());
        denoir_pipeline_free(null_mut());
        denoir_text_encoder_free(null_mut());
        denoir_device_list_free(null_mut());
        denoir_cancel(null());
    }
}

/// Structures of programs that were built against another version of the library.
#[test]
fn older_and_newer_programs_are_understood() {
    let h = Handles::new();
    let mut params = params();
    let mut pipeline = null_mut();
    // An older program has fewer fields, and garbage where this version has more.
    params.struct_size = std::mem::offset_of!(denoir_pipeline_params, threads);
    params.threads = u32::MAX;
    // SAFETY: valid handles; the structure has at least the size that it says.
    unsafe {
        let made = denoir_pipeline_new(h.context, h.model, &params, &mut pipeline);
        assert_eq!(made, DENOIR_OK, "{}", message(h.context));
        denoir_pipeline_free(pipeline);
    }
    // A newer one has more: zero means that it does not use them.
    #[repr(C)]
    struct Newer {
        known: denoir_pipeline_params,
        more: usize,
    }
    let mut newer = Newer { known: self::params(), more: 0 };
    newer.known.struct_size = size_of::<Newer>();
    for (more, status) in [(0, DENOIR_OK), (1, DENOIR_ERROR_ARGUMENT)] {
        newer.more = more;
        // SAFETY: the handles are live, and the structures as large as they say.
        unsafe {
            let whole = (&raw const newer).cast();
            assert_eq!(denoir_pipeline_new(h.context, h.model, whole, &mut pipeline), status);
            denoir_pipeline_free(pipeline);
        }
    }
}

/// Garbage where a size should be does not lead far beyond the structure.
#[test]
fn a_size_that_no_structure_has_is_refused() {
    #[repr(C)]
    struct Large {
        known: denoir_pipeline_params,
        more: [u8; 4096],
    }
    let h = Handles::new();
    let mut large = Large { known: params(), more: [0; 4096] };
    (large.known.backend, large.known.threads) = (denoir_backend::DENOIR_BACKEND_CPU as i32, 1);
    let mut pipeline = null_mut();
    for (size, status) in [
        (1024, DENOIR_OK),
        (1025, DENOIR_ERROR_ARGUMENT),
        (4096, DENOIR_ERROR_ARGUMENT),
        (usize::MAX, DENOIR_ERROR_ARGUMENT),
        (7, DENOIR_ERROR_ARGUMENT),
    ] {
        large.known.struct_size = size;
        // SAFETY: the handles are live, and the structure has the bytes that may be read.
        unsafe {
            assert_eq!(
                denoir_pipeline_new(h.context, h.model, (&raw const large).cast(), &mut pipeline),
                status,
                "{size}"
            );
            denoir_pipeline_free(pipeline);
        }
    }
    large.more.fill(7);
    // SAFETY: nothing is written.
    let filled = unsafe { denoir_pipeline_params_init(&mut large.known, usize::MAX) };
    assert!(filled == DENOIR_ERROR_ARGUMENT && large.more == [7; 4096] && large.known.struct_size == 7);
}

/// Callbacks that show progress to `progress` with this user data.
fn callbacks<T>(user_data: &mut T, progress: denoir_progress_callback) -> denoir_callbacks {
    let user_data = std::ptr::from_mut(user_data).cast();
    denoir_callbacks { struct_size: size_of::<denoir_callbacks>(), user_data, progress, log: None, preview: 0 }
}

/// What was shown: how often, and with a preview how often.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    progress: u32,
    previews: u32,
}

unsafe extern "C" fn stop_at_first(shown: *mut c_void, progress: *const denoir_progress) -> i32 {
    // SAFETY: the test gives the counters, the library the progress.
    let (shown, progress) = unsafe { (&mut *shown.cast::<Shown>(), &*progress) };
    assert_eq!((progress.image, progress.images, progress.batch, progress.evaluation), (0, 1, 1, 1));
    shown.progress += 1;
    if !progress.x_hat.is_null() {
        let len = progress.batch * progress.channels * progress.height * progress.width;
        // SAFETY: the header says how many values there are.
        let x_hat = unsafe { std::slice::from_raw_parts(progress.x_hat, len) };
        assert!(x_hat.iter().all(|x| x.is_finite()));
        shown.previews += 1;
    }
    1
}

#[test]
fn callbacks_stop_and_have_a_preview_where_it_is_wanted() {
    let h = Handles::new();
    let mut shown = Shown::default();
    let callbacks = callbacks(&mut shown, Some(stop_at_first));
    for preview in [0, 1] {
        let callbacks = denoir_callbacks { preview, ..callbacks };
        // SAFETY: a valid context; the counters outlive the callbacks.
        assert_eq!(unsafe { denoir_context_set_callbacks(h.context, &callbacks) }, DENOIR_OK);
        assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_ERROR_CANCELLED);
    }
    assert_eq!(shown, Shown { progress: 2, previews: 1 });
    // SAFETY: a valid context.
    assert_eq!(unsafe { denoir_context_set_callbacks(h.context, null()) }, DENOIR_OK);
    assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_OK);
}

#[test]
fn cancelling_while_idle_does_nothing() {
    let h = Handles::new();
    // SAFETY: a valid context.
    unsafe { denoir_cancel(h.context) };
    assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_OK, "{}", message(h.context));
}

unsafe extern "C" fn cancel_from_another_thread(context: *mut c_void, _: *const denoir_progress) -> i32 {
    let context = context.addr();
    // SAFETY: the test gives the context, which is for any thread.
    let cancel = move || unsafe { denoir_cancel(std::ptr::with_exposed_provenance(context)) };
    std::thread::spawn(cancel).join().map_or(1, |()| 0)
}

#[test]
fn cancelling_from_another_thread_stops_the_call_under_way_alone() {
    let h = Handles::new();
    let mut callbacks = callbacks(&mut (), Some(cancel_from_another_thread));
    h.context.expose_provenance();
    callbacks.user_data = h.context.cast();
    // SAFETY: a valid context, which outlives the callbacks.
    assert_eq!(unsafe { denoir_context_set_callbacks(h.context, &callbacks) }, DENOIR_OK);
    assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_ERROR_CANCELLED);
    // SAFETY: the handles are live, and the structures as large as they say.
    assert_eq!(unsafe { denoir_context_set_callbacks(h.context, null()) }, DENOIR_OK);
    assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_OK, "{}", message(h.context));
}

/// What the callback of a drawing knows of its own pipeline.
struct Inside<'h> {
    handles: &'h Handles,
    status: denoir_status,
}

unsafe extern "C" fn draw_again(inside: *mut c_void, _: *const denoir_progress) -> i32 {
    // SAFETY: the test gives the structure.
    let inside = unsafe { &mut *inside.cast::<Inside<'_>>() };
    inside.status = inside.handles.generate(&inside.handles.request(), &mut inside.handles.pixels(), 0);
    0
}

#[test]
fn a_pipeline_in_use_says_so() {
    let h = Handles::new();
    let mut inside = Inside { handles: &h, status: DENOIR_OK };
    let callbacks = callbacks(&mut inside, Some(draw_again));
    // SAFETY: a valid context; the structure outlives the callbacks.
    assert_eq!(unsafe { denoir_context_set_callbacks(h.context, &callbacks) }, DENOIR_OK);
    assert_eq!(h.generate(&h.request(), &mut h.pixels(), 0), DENOIR_OK);
    assert_eq!(inside.status, DENOIR_ERROR_BUSY);
}

/// musl gives a thread 128 KiB, where the thread's own data lies too.
#[test]
fn a_small_thread_opens_and_draws() {
    let draw = || {
        let handles = Handles::new();
        assert_eq!(handles.generate(&handles.request(), &mut handles.pixels(), 0), DENOIR_OK);
    };
    std::thread::Builder::new().stack_size(96 << 10).spawn(draw).unwrap().join().unwrap();
}

#[test]
fn noise_is_the_engines() {
    let h = Handles::new();
    let (mut noise, mut wanted) = ([0f32; 40], [0f32; 40]);
    denoir::Rng::Torch.fill(7, &mut wanted);
    // SAFETY: a valid context and place.
    unsafe {
        assert_eq!(denoir_noise(h.context, 0, 7, noise.as_mut_ptr(), noise.len()), DENOIR_OK);
        assert_eq!(denoir_noise(h.context, 9, 7, noise.as_mut_ptr(), noise.len()), DENOIR_ERROR_ARGUMENT);
    }
    assert_eq!(noise, wanted);
}

#[test]
fn every_device_is_listed() {
    let h = Handles::new();
    let mut list = null_mut();
    // SAFETY: a valid context; every place has the size that is said; texts are read before the list is freed.
    unsafe {
        assert_eq!(denoir_device_list_new(h.context, &mut list), DENOIR_OK);
        let devices = denoir::devices();
        assert_eq!(denoir_device_list_count(list), devices.len());
        let size = size_of::<denoir_device_info>();
        let mut info = std::mem::MaybeUninit::<denoir_device_info>::uninit();
        for (i, device) in devices.iter().enumerate() {
            assert_eq!(denoir_device_list_describe(h.context, list, i, info.as_mut_ptr(), size), DENOIR_OK);
            let info = info.assume_init();
            assert_eq!(CStr::from_ptr(info.name).to_string_lossy(), device.name);
            assert_eq!(CStr::from_ptr(info.level).to_str().ok(), device.levels.last().copied());
            assert_eq!((info.device as usize, info.threads), (device.index, device.threads));
        }
        assert_eq!(info.assume_init().struct_size, size);
        let end = denoir_device_list_describe(h.context, list, devices.len(), info.as_mut_ptr(), size);
        assert_eq!(end, DENOIR_ERROR_ARGUMENT);
        denoir_device_list_free(list);
    }
}
