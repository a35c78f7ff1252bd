//! What an input costs: memory, as AddressSanitizer's allocator tells it, and processor time.

#[cfg(feature = "libfuzzer")]
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what is allocated from now on. The library that is tested has an allocator of its own, so that only what lies
/// beneath it can count for all.
///
/// # Panics
/// If the sanitizer does not let it.
#[cfg(feature = "libfuzzer")]
pub fn count_memory() {
    unsafe extern "C" {
        fn __sanitizer_install_malloc_and_free_hooks(
            malloc: extern "C" fn(*const c_void, usize),
            free: extern "C" fn(*const c_void),
        ) -> c_int;
        fn __sanitizer_get_allocated_size(block: *const c_void) -> usize;
    }
    extern "C" fn allocated(_: *const c_void, bytes: usize) {
        PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    }
    extern "C" fn freed(block: *const c_void) {
        if !block.is_null() {
            // SAFETY: the sanitizer calls this with a block of its own that is about to be freed.
            LIVE.fetch_sub(unsafe { __sanitizer_get_allocated_size(block) }, Relaxed);
        }
    }
    // SAFETY: both functions call nothing that allocates.
    let installed = unsafe { __sanitizer_install_malloc_and_free_hooks(allocated, freed) };
    assert!(installed > 0, "no room for hooks");
}

/// Runs `work`. Returns the most bytes that were allocated on all threads meanwhile, beyond those before, and the
/// processor time of this thread. The bytes are 0 unless memory is counted, which only the fuzzer does.
pub(crate) fn cost(work: impl FnOnce()) -> (usize, Duration) {
    let (before, start) = (LIVE.load(Relaxed), time_of(libc::CLOCK_THREAD_CPUTIME_ID));
    PEAK.store(before, Relaxed);
    work();
    (PEAK.load(Relaxed).saturating_sub(before), time_of(libc::CLOCK_THREAD_CPUTIME_ID).saturating_sub(start))
}

/// Prints the processor time of the program at its end, for `cargo xtask fuzz`.
pub fn say_processor_time() {
    extern "C" fn say() {
        eprintln!("processor seconds: {:.1}", time_of(libc::CLOCK_PROCESS_CPUTIME_ID).as_secs_f64());
    }
    // SAFETY: a function without arguments. If it is not kept, `cargo xtask fuzz` counts nothing.
    unsafe { libc::atexit(say) };
}

/// The time that a thread or the program has run. Unlike a clock on the wall, it does not count what other programs take.
fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) } != 0;
    assert!(!failed, "a Unix has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
