//! Drawing calls, with requests that are valid or not.

use std::ptr::{null, null_mut};

use denoir_capi::denoir_status::*;
use denoir_capi::*;

use super::host::{EMBEDS, Host, Running};

/// Numbers of settings, those that work first.
const NUMBERS: [f64; 9] = [1.0, 0.5, 2.0, 0.0, -1.0, 1e-38, 3e38, f64::NAN, f64::INFINITY];
/// What lies after a buffer's end, and must stay.
const GUARD: u8 = 0xa5;

/// A request, with room for the fields of later versions.
#[repr(C)]
struct Longer {
    request: denoir_request,
    more: [usize; 2],
}

/// Draws into bytes or f32.
pub(super) fn generate(host: &Host<'_>) {
    let (context, pipeline, model) = (host.context(), host.any(&host.pipelines), host.any(&host.models));
    let mut request: Longer = Longer { request: zeroed(), more: [0; 2] };
    // SAFETY: the place has this size; NULL or valid.
    let status = unsafe { denoir_request_init(&mut request.request, size_of::<denoir_request>(), model) };
    if status != DENOIR_OK {
        assert!(model.is_null(), "a model has settings");
        return;
    }
    let (classes, embeds) = ([host.below(5) as u32; 4], [0.5f32; EMBEDS]);
    let is_ordinary = host.below(4) < 3;
    let r = &mut request.request;
    (r.images, r.steps) = (host.pick(&[1, 1, 2, 3]), 1 + host.below(2) as u32);
    r.seed = host.below(3) as u64;
    r.classes = host.pick(&[null(), classes.as_ptr()]);
    (r.prompt_embeds, r.negative_prompt_embeds) = (embeds.as_ptr(), embeds.as_ptr());
    if !is_ordinary {
        change(host, &mut request);
    }
    let images = request.request.images;
    let stride = host.pick(&[0, 0, 0, 64, 1, usize::MAX]);
    // SAFETY: NULL or valid.
    let wanted = unsafe { denoir_pixels_size(model, images, stride) };
    let size = wanted.min(1 << 16) - host.pick(&[0, 0, 0, 1]).min(wanted);
    let is_busy = host.uses_pipeline(pipeline);
    host.running.borrow_mut().push(Running { context, pipeline, is_stopped: false });
    let status = if host.below(4) == 3 {
        draw_f32(context, pipeline, &request.request, size)
    } else {
        let mut pixels = vec![GUARD; size + 8];
        // SAFETY: NULL or valid, and `size` bytes.
        let status = unsafe { denoir_generate(context, pipeline, &request.request, pixels.as_mut_ptr(), size, stride) };
        assert!(pixels[size..].iter().all(|byte| *byte == GUARD), "written past the end");
        status
    };
    let call = host.running.borrow_mut().pop().expect("this call");
    host.check(status, ());
    if is_busy && !pipeline.is_null() && !context.is_null() {
        assert_eq!(status, DENOIR_ERROR_BUSY, "a pipeline serves one call at a time");
    }
    assert_eq!(
        call.is_stopped,
        status == DENOIR_ERROR_CANCELLED,
        "a call ends as cancelled exactly if it was: {status:?}"
    );
}

fn draw_f32(
    context: *mut denoir_context,
    pipeline: *mut denoir_pipeline,
    request: &denoir_request,
    count: usize,
) -> denoir_status {
    let mut samples = vec![f32::MAX; count].into_boxed_slice();
    let place = if count == 0 { null_mut() } else { samples.as_mut_ptr() };
    // SAFETY: NULL or valid, and `count` values.
    let status = unsafe { denoir_generate_f32(context, pipeline, request, place, count) };
    if status == DENOIR_OK {
        assert!(samples.iter().all(|x| x.is_finite()), "a picture is finite");
    }
    status
}

/// Changes what a careless host gets wrong.
fn change(host: &Host<'_>, request: &mut Longer) {
    let r = &mut request.request;
    match host.below(12) {
        0 => r.struct_size = host.pick(&[0, 7, 8, 40, size_of::<denoir_request>()]),
        1 => {
            r.struct_size = size_of::<Longer>();
            request.more[1] = host.below(2);
        }
        2 => r.rng = host.pick(&[1, 2, -1]),
        3 => r.method = host.pick(&[0, 1, 2, 3, 4, 5, -1]),
        4 => r.steps = host.pick(&[0, 3, u32::MAX]),
        5 => r.order = host.pick(&[0, 1, 4, 5]),
        6 => r.cfg_scale = host.pick(&NUMBERS),
        7 => r.guidance_lo = host.pick(&NUMBERS),
        8 => r.guidance_hi = host.pick(&NUMBERS),
        9 => r.flow_shift = host.pick(&NUMBERS),
        10 => r.noise_scale = host.pick(&NUMBERS),
        _ => {
            // No class can be read for more images than there are.
            (r.images, r.classes) = (host.pick(&[0, 4, usize::MAX, usize::MAX / 2]), null());
            r.prompt_embeds = null();
        }
    }
}

fn zeroed() -> denoir_request {
    // SAFETY: numbers and pointers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}
