//! A global allocator that counts per thread. A test can thus bound what a reader allocates for a hostile file while
//! other tests run.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// Install with `#[global_allocator]` in the test that measures.
#[derive(Debug)]
pub struct CountingAllocator;

std::thread_local! {
    // Both are plain cells with constant initial values: reading them allocates nothing, so the allocator may.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    LIVE.with(|live| {
        live.set(live.get() + change);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: the system's allocator does all; counting touches no memory of the caller.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller promises that `layout` is not empty.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller promises that `layout` is not empty.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller promises that `ptr` came from here with `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may be live while the data move.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller promises that `ptr` came from here with `layout`, and that `size` is not 0.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// Runs `work`; returns its result and the peak number of bytes allocated on this thread.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// Calls `check` with every truncation of `bytes`, and with copies in which one bit is flipped, for each bit that
/// `bits` selects at each offset. The text describes the damage, for messages.
pub fn every_damage(bytes: &[u8], bits: impl Fn(usize) -> u8, mut check: impl FnMut(&[u8], &dyn Fn() -> String)) {
    for len in 0..bytes.len() {
        check(&bytes[..len], &|| format!("cut to {len} bytes"));
    }
    let mut copy = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in (0..8).filter(|bit| bits(at) & (1 << bit) != 0) {
            copy[at] ^= 1 << bit;
            check(&copy, &|| format!("bit {bit} of byte {at} flipped"));
            copy[at] ^= 1 << bit;
        }
    }
}
