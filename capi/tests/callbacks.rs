//! What a host may do inside a callback.

mod common;

use std::ffi::c_void;

use common::{Host, TINY};
use denoir_capi::denoir_status::*;
use denoir_capi::*;

/// A drawing to begin inside another one, with its context.
struct Nested {
    context: *mut denoir_context,
    inner: Host,
    /// Calls of the callback, those for the inner drawing included.
    calls: usize,
    status: denoir_status,
    picture: Vec<u8>,
}

/// At its first call cancels, and then draws with the other pipeline.
unsafe extern "C" fn cancel_and_draw(nested: *mut c_void, _: *const denoir_progress) -> i32 {
    let nested = nested.cast::<Nested>();
    // SAFETY: the test gives the structure, and looks at it only when the drawing has ended. This is called again while it
    // draws, and only counts then.
    unsafe {
        (*nested).calls += 1;
        if (*nested).calls == 1 {
            let (context, pipeline, mut picture) =
                ((*nested).context, (*nested).inner.pipeline, (*nested).inner.pixels(1));
            let request = (*nested).inner.request();
            denoir_cancel(context);
            (*nested).status = denoir_generate(context, pipeline, &request, picture.as_mut_ptr(), picture.len(), 0);
            (*nested).picture = picture;
        }
    }
    0
}

#[test]
fn cancelling_in_a_callback_stops_the_outer_drawing_and_no_nested_one() {
    let outer = Host::new(TINY, 2);
    let (inner, status) = (Host::new(TINY, 2), DENOIR_ERROR_INTERNAL);
    let mut nested = Nested { context: outer.context, inner, calls: 0, status, picture: Vec::new() };
    outer.observe(Some(cancel_and_draw), &mut nested);
    let (request, mut pixels) = (outer.request(), outer.pixels(1));
    assert_eq!(outer.generate(&request, &mut pixels), DENOIR_ERROR_CANCELLED, "{}", outer.message());
    assert_eq!(nested.status, DENOIR_OK, "{}", outer.message());
    // One call for the outer evaluation, and one for each of the inner ones.
    assert!(nested.calls > 2, "{} calls", nested.calls);
    // What was asked for while a drawing ran does not stop the next one.
    assert_eq!(outer.generate(&request, &mut pixels), DENOIR_OK, "{}", outer.message());
    assert!(nested.picture == pixels, "the nested drawing is another");
}

/// Overwrites what the drawing is made from.
unsafe extern "C" fn overwrite(classes: *mut c_void, _: *const denoir_progress) -> i32 {
    // SAFETY: the test gives the classes of both images.
    unsafe { classes.cast::<[u32; 2]>().write([u32::MAX; 2]) };
    0
}

#[test]
fn a_request_is_the_callers_again_once_drawing_begins() {
    let host = Host::new(TINY, 1);
    let mut request = denoir_request { images: 2, ..host.request() };
    let (mut expected, mut pixels) = (host.pixels(2), host.pixels(2));
    let mut classes = [0u32, 1];
    request.classes = classes.as_ptr();
    assert_eq!(host.generate(&request, &mut expected), DENOIR_OK, "{}", host.message());
    host.observe(Some(overwrite), &mut classes);
    request.classes = (&raw const classes).cast();
    assert_eq!(host.generate(&request, &mut pixels), DENOIR_OK, "{}", host.message());
    assert!(pixels == expected, "the second image was drawn from what the callback wrote");
    assert_eq!(classes, [u32::MAX; 2]);
}

#[test]
fn classes_and_pixels_may_be_one_buffer() {
    let host = Host::new(TINY, 1);
    let mut request = denoir_request { images: 2, ..host.request() };
    let classes = [0u32, 1];
    request.classes = classes.as_ptr();
    let mut expected = host.pixels(2);
    assert_eq!(host.generate(&request, &mut expected), DENOIR_OK);
    let mut shared = vec![0u32; expected.len().div_ceil(4)];
    shared[..2].copy_from_slice(&classes);
    let at = shared.as_mut_ptr();
    request.classes = at;
    // SAFETY: valid handles; the buffer is large enough for both.
    let drawn = unsafe { denoir_generate(host.context, host.pipeline, &request, at.cast(), expected.len(), 0) };
    assert_eq!(drawn, DENOIR_OK, "{}", host.message());
    // SAFETY: as many bytes are in the buffer.
    assert!(unsafe { std::slice::from_raw_parts(at.cast::<u8>(), expected.len()) } == expected);
}
