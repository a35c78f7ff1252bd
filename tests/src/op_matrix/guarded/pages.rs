//! Memory between pages that nobody may touch, and the handler that names who did. Systems other than Unix have
//! ordinary memory.

use core::ops::Range;

/// Areas of memory, each between two forbidden pages.
pub(super) struct Pages {
    memory: system::Memory,
}

impl Pages {
    /// Zeros in areas of at least these sizes, up to whole pages; also the place of each from the first byte on.
    pub(super) fn new(sizes: &[usize]) -> (Pages, Vec<Range<usize>>) {
        let page = system::page_bytes();
        let mut end = page;
        let areas: Vec<Range<usize>> = (sizes.iter())
            .map(|size| {
                let area = end..end + size.next_multiple_of(page);
                end = area.end + page;
                area
            })
            .collect();
        let memory = system::Memory::new(end, &areas);
        (Pages { memory }, areas)
    }

    /// Bytes of one area.
    pub(super) fn bytes(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.memory.all_mut()[range]
    }

    /// Everything, as the region that views are in.
    pub(super) fn all(&self) -> &[u8] {
        self.memory.all()
    }

    /// As [`Pages::all`].
    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        self.memory.all_mut()
    }

    /// From here on, whoever writes ends the process.
    pub(super) fn forbid_writes(&mut self) {
        self.memory.forbid_writes();
    }

    /// Says what is printed if a forbidden page is touched.
    pub(super) fn label(&self, text: &str) {
        self.memory.label(text);
    }
}

/// One block that starts at a multiple of 64 and ends at a forbidden page, or as close to it as that allows.
pub(crate) struct Block {
    pages: Pages,
    place: Range<usize>,
}

impl Block {
    /// `len` zeros.
    pub(crate) fn new(len: usize, label: &str) -> Block {
        let (pages, areas) = Pages::new(&[len.next_multiple_of(64)]);
        pages.label(label);
        let start = areas[0].end - len.next_multiple_of(64);
        Block { pages, place: start..start + len }
    }

    /// The bytes.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.pages.bytes(self.place.clone())
    }
}

#[cfg(unix)]
mod system {
    use core::ffi::{c_int, c_void};
    use core::ops::Range;
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    use std::sync::OnceLock;

    pub(super) fn page_bytes() -> usize {
        static BYTES: OnceLock<usize> = OnceLock::new();
        // SAFETY: asks for a number.
        *BYTES.get_or_init(|| usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a size"))
    }

    /// A mapping.
    pub(super) struct Memory {
        first: *mut u8,
        len: usize,
        writable: Vec<Range<usize>>,
        watched: Option<&'static Watched>,
    }

    // SAFETY: the mapping is this value's own.
    unsafe impl Send for Memory {}

    impl Memory {
        pub(super) fn new(len: usize, areas: &[Range<usize>]) -> Memory {
            name_faults();
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, wherever the system likes.
            let first = unsafe { libc::mmap(core::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
            assert_ne!(first, libc::MAP_FAILED, "no memory");
            let first = first.cast::<u8>();
            let memory = Memory { first, len, writable: areas.to_vec(), watched: watch(first.addr(), len) };
            memory.protect(libc::PROT_READ | libc::PROT_WRITE);
            memory
        }

        fn protect(&self, allowed: c_int) {
            for Range { start, end } in self.writable.iter().filter(|area| !area.is_empty()) {
                // SAFETY: whole pages of the mapping.
                let result = unsafe { libc::mprotect(self.first.add(*start).cast(), end - start, allowed) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            }
        }

        pub(super) fn all(&self) -> &[u8] {
            // SAFETY: the mapping; its users stay in the areas, and those that do not are why it is there.
            unsafe { core::slice::from_raw_parts(self.first, self.len) }
        }

        pub(super) fn all_mut(&mut self) -> &mut [u8] {
            // SAFETY: as in `all`.
            unsafe { core::slice::from_raw_parts_mut(self.first, self.len) }
        }

        pub(super) fn forbid_writes(&mut self) {
            self.protect(libc::PROT_READ);
        }

        pub(super) fn label(&self, text: &str) {
            let Some(watched) = self.watched else { return };
            let text = text.bytes().take(LABEL - 1).chain([0]);
            watched.label.iter().zip(text).for_each(|(to, byte)| to.store(byte, Ordering::Relaxed));
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            if let Some(watched) = self.watched {
                watched.first.store(0, Ordering::Release);
            }
            // SAFETY: the mapping, which nobody borrows any more.
            unsafe { libc::munmap(self.first.cast(), self.len) };
        }
    }

    /// Bytes of a label, with the 0 at its end.
    const LABEL: usize = 256;

    /// A mapping that the handler knows. No lock: the handler may run at any time.
    struct Watched {
        /// Its address; 0 where the place is free.
        first: AtomicUsize,
        len: AtomicUsize,
        label: [AtomicU8; LABEL],
    }

    static WATCHED: [Watched; 128] = [const {
        Watched { first: AtomicUsize::new(0), len: AtomicUsize::new(0), label: [const { AtomicU8::new(0) }; LABEL] }
    }; 128];

    /// Enters a mapping; `None` where there are too many, which then have no names.
    fn watch(first: usize, len: usize) -> Option<&'static Watched> {
        let claimed =
            |watched: &&Watched| watched.first.compare_exchange(0, first, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let watched = WATCHED.iter().find(claimed)?;
        watched.label[0].store(0, Ordering::Relaxed);
        watched.len.store(len, Ordering::Relaxed);
        Some(watched)
    }

    /// What handled the signals before.
    static BEFORE: [OnceLock<libc::sigaction>; 2] = [OnceLock::new(), OnceLock::new()];
    /// Forbidden pages raise one or the other.
    const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

    /// Installs the handler, once.
    fn name_faults() {
        for (before, signal) in BEFORE.iter().zip(SIGNALS) {
            before.get_or_init(|| {
                // SAFETY: all zeros are an action; the handler has the signature that SA_SIGINFO asks for, and calls
                // only functions that a handler may.
                unsafe {
                    let (mut action, mut before): (libc::sigaction, libc::sigaction) = core::mem::zeroed();
                    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
                    action.sa_sigaction = handler as usize;
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                    assert_eq!(libc::sigaction(signal, &action, &mut before), 0);
                    before
                }
            });
        }
    }

    /// Prints whose memory it was. The access then happens again, and ends the process.
    extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
        // SAFETY: the system passes what it says.
        let at = unsafe { (*info).si_addr() }.addr();
        for watched in &WATCHED {
            let first = watched.first.load(Ordering::Acquire);
            if first != 0 && (first..first + watched.len.load(Ordering::Relaxed)).contains(&at) {
                let mut text = [0; LABEL];
                let label = watched.label.iter().map(|byte| byte.load(Ordering::Relaxed));
                let len = text.iter_mut().zip(label.take_while(|byte| *byte != 0)).map(|(to, byte)| *to = byte).count();
                for part in [b"\ntouched memory that is not its own: ".as_slice(), &text[..len], b"\n"] {
                    // SAFETY: writes bytes that are here.
                    unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
                }
            }
        }
        for (before, ours) in BEFORE.iter().zip(SIGNALS) {
            if let (true, Some(before)) = (ours == signal, before.get()) {
                // SAFETY: the action that was there.
                unsafe { libc::sigaction(signal, before, core::ptr::null_mut()) };
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    use core::ops::Range;

    use denoir::AlignedBytes;

    pub(super) fn page_bytes() -> usize {
        64
    }

    /// Ordinary memory.
    pub(super) struct Memory(AlignedBytes);

    impl Memory {
        pub(super) fn new(len: usize, _areas: &[Range<usize>]) -> Memory {
            Memory(AlignedBytes::zeroed(len).expect("memory"))
        }

        pub(super) fn all(&self) -> &[u8] {
            self.0.as_slice()
        }

        pub(super) fn all_mut(&mut self) -> &mut [u8] {
            self.0.as_mut_slice()
        }

        pub(super) fn forbid_writes(&mut self) {}

        pub(super) fn label(&self, _text: &str) {}
    }
}
