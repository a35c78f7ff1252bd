//! Memory that the system refuses. These tests replace the C library's `malloc` and `mmap`, beneath the library's own
//! allocator, and so are alone in their program.
#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use common::{Host, TINY};
use denoir_capi::denoir_status::*;
use denoir_capi::*;

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    fn syscall(number: c_long, ...) -> c_long;
}

/// The system call `mmap`.
const MMAP: c_long = if cfg!(target_arch = "x86_64") { 9 } else { 222 };
/// What `posix_memalign` returns without memory.
const ENOMEM: c_int = 12;

std::thread_local! {
    /// Whether this thread's allocations are counted and may fail. Those of a worker do not: the standard library and the C
    /// library make them while it starts, past any allocator of a program, and end the process if they fail.
    static ARMED: Cell<bool> = const { Cell::new(false) };
}
/// Bytes of a thread's handle, which the standard library allocates in the same way. The pool looks before whether there
/// is memory for a thread.
const HANDLE: usize = 48;

/// Allocations since then.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Bytes of them.
static BYTES: AtomicUsize = AtomicUsize::new(0);
/// The first allocation that fails, and the first after it that succeeds again.
static FAILS: [AtomicUsize; 2] = [const { AtomicUsize::new(usize::MAX) }; 2];

fn is_refused(bytes: usize) -> bool {
    if !ARMED.get() || bytes == HANDLE {
        return false;
    }
    BYTES.fetch_add(bytes, Relaxed);
    let number = COUNT.fetch_add(1, Relaxed);
    (FAILS[0].load(Relaxed)..FAILS[1].load(Relaxed)).contains(&number)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the C library's own, with what its caller gave.
    if is_refused(size) { null_mut() } else { unsafe { __libc_malloc(size) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: the C library's own, with what its caller gave.
    if is_refused(count.saturating_mul(size)) { null_mut() } else { unsafe { __libc_calloc(count, size) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the C library's own, with what its caller gave.
    if is_refused(size) { null_mut() } else { unsafe { __libc_realloc(block, size) } }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if is_refused(size) {
        return ENOMEM;
    }
    // SAFETY: the C library's own, with what its caller gave; the place is the caller's.
    unsafe {
        place.write(__libc_memalign(align, size));
        if (*place).is_null() { ENOMEM } else { 0 }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    if is_refused(len) {
        // MAP_FAILED
        return std::ptr::without_provenance_mut(usize::MAX);
    }
    // SAFETY: the system's own, with what its caller gave.
    let map = unsafe { syscall(MMAP, at, len, c_long::from(prot), c_long::from(flags), c_long::from(fd), offset) };
    std::ptr::with_exposed_provenance_mut(map as usize)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: with what its caller gave.
    unsafe { mmap(at, len, prot, flags, fd, offset) }
}

/// Held by the test that counts.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `work` while these allocations fail; returns its result, and the number and bytes of its allocations.
fn counted<T>(fails: std::ops::Range<usize>, work: impl FnOnce() -> T) -> (T, usize, usize) {
    FAILS[0].store(fails.start, Relaxed);
    FAILS[1].store(fails.end, Relaxed);
    COUNT.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    ARMED.set(true);
    let result = work();
    ARMED.set(false);
    (result, COUNT.load(Relaxed), BYTES.load(Relaxed))
}

/// Runs `work` with each allocation failing in turn, once alone and once with all that follow.
fn fail_in_turn(what: &str, work: &dyn Fn() -> denoir_status) {
    let (status, allocations, _) = counted(usize::MAX..usize::MAX, work);
    assert!(status == DENOIR_OK && allocations > 10, "{what}: {status:?} after {allocations} allocations");
    let (mut refused, mut done) = (0, 0);
    for all in [false, true] {
        for first in 0.. {
            let last = if all { usize::MAX } else { first + 1 };
            let (status, count, _) = counted(first..last, work);
            match status {
                DENOIR_OK => done += 1,
                DENOIR_ERROR_MEMORY => refused += 1,
                // What the system calls an error of the file; and a context that there is no memory for.
                DENOIR_ERROR_IO | DENOIR_ERROR_ARGUMENT => refused += 1,
                other => panic!("{what}: {other:?} where allocation {first} fails"),
            }
            if count <= first {
                assert_eq!(status, DENOIR_OK, "{what}: nothing failed");
                break;
            }
        }
    }
    println!("{what}: {allocations} allocations; {refused} runs refused, {done} done");
    assert!(refused > allocations / 2, "{what}: {refused} runs refused, {done} done");
}

/// Opens, draws and frees.
fn draw(open: common::Open) -> denoir_status {
    let (mut host, mut status) = Host::open(Path::new(TINY), open);
    if status == DENOIR_OK {
        status = host.prepare(2);
    }
    if status == DENOIR_OK {
        let request = host.request();
        // No vector: the test's own allocations may not fail.
        let mut pixels = [0; 4096];
        // SAFETY: a valid model.
        let size = unsafe { denoir_pixels_size(host.model, 1, 0) };
        status = host.generate(&request, &mut pixels[..size]);
    }
    let mut message = [0; 64];
    // SAFETY: a context or NULL, and a buffer.
    unsafe { denoir_context_message(host.context, message.as_mut_ptr(), message.len()) };
    status
}

#[test]
fn every_allocation_of_drawing_may_fail() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    fail_in_turn("read and draw", &|| draw(denoir_model_open));
    fail_in_turn("map and draw", &|| draw(denoir_model_map));
}

/// A text encoder's file, and a model that takes its embeddings.
fn text_models(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    denoir_tests::tiny_encoder::write(folder, denoir_tests::convert_checkpoint::Float::F32)?;
    let encoder = folder.join("encoder.gguf");
    denoir_convert::convert(&denoir_convert::locate(folder)?, &encoder, &Default::default(), &mut |_| {})?;
    let model = folder.join("model.gguf");
    let t2i = denoir_tests::golden::model("text/t2i.forward", denoir_core::DType::F32)?;
    std::fs::write(&model, t2i.bytes())?;
    Ok((encoder, model))
}

#[test]
fn every_allocation_of_encoding_may_fail() -> Result<()> {
    // What the system refuses one thread ends the work of all others.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir()?;
    let (path, model) = text_models(folder.path())?;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let (model, opened) = Host::open(&model, denoir_model_open);
    assert_eq!(opened, DENOIR_OK, "{}", model.message());
    let embeds = std::cell::RefCell::new([vec![0f32; 1 << 16], vec![0f32; 1 << 16]]);
    fail_in_turn("encode", &|| {
        let (context, mut encoder) = (denoir_context_new(), null_mut());
        let [prompt, negative] = &mut *embeds.borrow_mut();
        // SAFETY: valid handles, or NULL, which is an error; valid strings and places.
        unsafe {
            let mut status = denoir_text_encoder_open(context, path.as_ptr(), &mut encoder);
            if status == DENOIR_OK {
                let (words, to, negative) = (c"ab a".as_ptr(), prompt.as_mut_ptr(), negative.as_mut_ptr());
                let none = std::ptr::null();
                status =
                    denoir_text_encoder_encode(context, encoder, model.model, words, none, 2, to, negative, 1 << 16);
            }
            denoir_text_encoder_free(encoder);
            denoir_context_free(context);
            status
        }
    });
    Ok(())
}

#[test]
fn thousands_of_images_take_the_memory_of_a_batch() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    const IMAGES: usize = 4000;
    let host = Host::new(TINY, 1);
    let mut pixels = host.pixels(IMAGES);
    let mut request = denoir_request { images: IMAGES, steps: 1, cfg_scale: 1.0, ..host.request() };
    let (drawn, _, bytes) = counted(usize::MAX..usize::MAX, || host.generate(&request, &mut pixels));
    assert_eq!(drawn, DENOIR_OK, "{}", host.message());
    request.images = 1;
    let one = pixels.len() / IMAGES;
    let (drawn, _, alone) = counted(usize::MAX..usize::MAX, || host.generate(&request, &mut pixels[..one]));
    assert_eq!(drawn, DENOIR_OK, "{}", host.message());
    // Each image has a class of four bytes.
    assert!(bytes <= alone + 4 * IMAGES, "{bytes} bytes for {IMAGES} images, {alone} for one");
}
