//! Memory that starts at a multiple of 64 and ends exactly where it says, so that AddressSanitizer sees a read past it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes as the engine takes them.
pub(crate) struct ExactBytes {
    start: NonNull<u8>,
    layout: Layout,
}

impl ExactBytes {
    pub(crate) fn zeroed(len: usize) -> ExactBytes {
        // No layout is empty.
        let layout = Layout::from_size_align(len.max(1), 64).expect("a possible size");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        ExactBytes { start: start.unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    pub(crate) fn copied(bytes: &[u8]) -> ExactBytes {
        let mut copy = ExactBytes::zeroed(bytes.len());
        copy[..bytes.len()].copy_from_slice(bytes);
        copy
    }
}

impl Deref for ExactBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated with this layout in `zeroed`, and ours until it is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for ExactBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for ExactBytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeroed`.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
