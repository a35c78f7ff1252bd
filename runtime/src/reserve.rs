//! A reserve of memory, so that a program that reaches the limit of its memory ends with an error and not with an abort.
//!
//! Rust code, the standard library included, aborts the process where the system refuses it a small allocation, for it
//! does not look. The two products of this project, the command line and the C library, therefore allocate through
//! [`Reserve`]. It passes everything on to the system; only what the system refuses, and is small, comes from a static
//! reserve. Whatever opens or draws looks with [`Watch`] whether this happened, and then ends with [`Refused`], so
//! that the reserve is needed for a short time. Large allocations are the callers' to check, [`fallibly`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the reserve. It lies where a program's zeros lie, and so takes address space but no memory until it is used.
const SIZE: usize = 4 << 20;
/// Blocks begin at multiples of this.
const STEP: usize = 256;
/// The largest block that comes from the reserve: what encoders of pictures allocate without looking.
const MOST: usize = 1 << 20;

/// Bits of the state that count steps in use, and bits that count blocks.
const BITS: u32 = (SIZE / STEP).ilog2() + 1;

/// The memory itself.
#[repr(align(256))]
struct Arena(UnsafeCell<[u8; SIZE]>);

// SAFETY: `take` gives each part to one owner at a time.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; SIZE]));
/// Steps in use, from the start of the arena on, and above them the number of blocks that live there. When the last of
/// them is freed, all of the arena is free again.
static STATE: AtomicUsize = AtomicUsize::new(0);
/// How often the system refused something small.
static REFUSALS: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the last such request.
static REFUSED: AtomicUsize = AtomicUsize::new(0);
/// Number of threads whose allocations may fail.
static FALLIBLE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a reserve, for `#[global_allocator]` in a program.
#[derive(Debug)]
pub struct Reserve {
    ends_process: bool,
}

impl Reserve {
    /// For a library: once the reserve is used up, allocations fail as they do without it.
    pub const fn for_library() -> Reserve {
        Reserve { ends_process: false }
    }

    /// For a program of its own: where the reserve cannot help, it prints `error: out of memory` and exits with 1.
    pub const fn for_program() -> Reserve {
        Reserve { ends_process: true }
    }

    /// Memory for what the system refused.
    #[cold]
    fn spare(&self, layout: Layout) -> *mut u8 {
        let mut block = null_mut();
        if layout.size() <= MOST && layout.align() <= STEP {
            REFUSED.store(layout.size(), Ordering::Relaxed);
            REFUSALS.fetch_add(1, Ordering::Relaxed);
            block = take(layout.size());
        }
        if block.is_null() && self.ends_process && FALLIBLE.load(Ordering::Relaxed) == 0 {
            end();
        }
        block
    }
}

// SAFETY: the system's allocator does what it promises; blocks of the reserve are disjoint, and found by their address.
unsafe impl GlobalAlloc for Reserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises that `layout` is not empty.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { self.spare(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises that `layout` is not empty.
        let mut block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() {
            block = self.spare(layout);
            if !block.is_null() {
                // SAFETY: a block of this size, which nobody else has.
                unsafe { block.write_bytes(0, layout.size()) };
            }
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_spare(block) {
            return give_back();
        }
        // SAFETY: the caller promises that the block came from here with `layout`, and so from the system.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let was_spare = is_spare(block);
        if !was_spare {
            // SAFETY: the caller promises that the block came from here with `layout`, and so from the system.
            let larger = unsafe { System.realloc(block, layout, size) };
            if !larger.is_null() {
                return larger;
            }
        }
        // SAFETY: the caller promises that `size` is not 0, and valid with the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as above: the layout is not empty.
        let to = if was_spare { unsafe { self.alloc(new) } } else { self.spare(new) };
        if !to.is_null() {
            // SAFETY: both blocks have as many bytes, and are two; the old one came from here with `layout`.
            unsafe {
                to.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        to
    }
}

/// Allocates something large: whoever asks sees a refusal.
pub(crate) fn fallibly<T>(allocate: impl FnOnce() -> T) -> T {
    FALLIBLE.fetch_add(1, Ordering::Relaxed);
    let result = allocate();
    FALLIBLE.fetch_sub(1, Ordering::Relaxed);
    result
}

/// A block of the reserve; NULL if there is no room.
fn take(size: usize) -> *mut u8 {
    let steps = size.div_ceil(STEP).max(1);
    let more = |state: usize| {
        let used = (state & ((1 << BITS) - 1)) + steps;
        (used <= SIZE / STEP).then_some(state + steps + (1 << BITS))
    };
    match STATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
        // SAFETY: inside the arena: as many steps are free after those in use.
        Ok(state) => unsafe { ARENA.0.get().cast::<u8>().add((state & ((1 << BITS) - 1)) * STEP) },
        Err(_) => null_mut(),
    }
}

/// Counts one block less.
fn give_back() {
    let less = |state: usize| Some(if state >> BITS <= 1 { 0 } else { state - (1 << BITS) });
    // It always has a next state.
    let _ = STATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

fn is_spare(block: *mut u8) -> bool {
    block.addr().wrapping_sub(ARENA.0.get().addr()) < SIZE
}

/// Says what happened, allocating nothing, and exits.
fn end() -> ! {
    #[cfg(unix)]
    {
        use std::io::Write as _;
        use std::os::fd::FromRawFd as _;
        // SAFETY: borrowed: it is never closed. Standard error's own lock may be held by whoever allocates.
        let mut stderr = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(2) });
        let _ = stderr.write_all(b"error: out of memory\n");
    }
    std::process::exit(1)
}

/// The system refused as many bytes, and the reserve helped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) usize);

/// Sees whether the system refuses memory from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(usize);

impl Watch {
    pub(crate) fn start() -> Watch {
        Watch(REFUSALS.load(Ordering::Relaxed))
    }

    /// # Errors
    /// [`Refused`] if it has.
    pub(crate) fn check(self) -> Result<(), Refused> {
        if REFUSALS.load(Ordering::Relaxed) == self.0 {
            return Ok(());
        }
        Err(Refused(REFUSED.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_disjoint_and_the_last_one_frees_all() {
        const LIBRARY: Reserve = Reserve::for_library();
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        let sizes = [1, 255, 256, 257, 5000, MOST];
        for _ in 0..50 {
            let blocks = sizes.map(|size| LIBRARY.spare(layout(size)));
            for (i, (block, size)) in blocks.iter().zip(sizes).enumerate() {
                assert!(!block.is_null() && is_spare(*block) && block.addr().is_multiple_of(64));
                // SAFETY: a block of this size.
                unsafe { block.write_bytes(i as u8 + 1, size) };
            }
            for (i, (block, size)) in blocks.into_iter().zip(sizes).enumerate() {
                // SAFETY: written above.
                let bytes = unsafe { std::slice::from_raw_parts(block, size) };
                assert!(bytes.iter().all(|&byte| byte == i as u8 + 1));
                // SAFETY: a block from here, of this size, freed once; the system has more.
                unsafe {
                    let moved = LIBRARY.realloc(block, layout(size), size + 9);
                    assert!(!is_spare(moved) && *moved == i as u8 + 1);
                    LIBRARY.dealloc(moved, layout(size + 9));
                }
            }
            assert_eq!(STATE.load(Ordering::Relaxed), 0);
        }
        assert!(LIBRARY.spare(layout(MOST + 1)).is_null());
        let watch = Watch::start();
        let all: Vec<_> = (0..SIZE / MOST).map(|_| LIBRARY.spare(layout(MOST))).collect();
        assert!(all.iter().all(|block| !block.is_null()) && LIBRARY.spare(layout(1)).is_null());
        assert_eq!((watch.check(), Watch::start().check()), (Err(Refused(1)), Ok(())));
        all.into_iter().for_each(|_| give_back());
        assert_eq!(STATE.load(Ordering::Relaxed), 0);
    }
}
