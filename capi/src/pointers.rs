//! Converts C pointers to references and slices. NULL is an error here. The caller promises that any other pointer
//! points to what the header says.

use std::ffi::{CStr, c_char};

use crate::status::{Failure, Result};

/// # Safety
/// NULL, or a pointer that is valid during the call.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: the caller promises that the pointer is valid or NULL.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::argument(format!("{what} is NULL")))
}

/// # Safety
/// NULL, or a NUL-terminated string that is valid during the call.
pub(crate) unsafe fn string<'a>(pointer: *const c_char, what: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, and a string by the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// # Safety
/// NULL, or `len` values that are valid during the call.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, len: usize, what: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer, len, what)?;
    // SAFETY: not NULL, aligned, of a possible size, and valid by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Memory of the caller that a call writes. It becomes a reference only while a part of it is written, because a callback
/// may look at the others.
pub(crate) struct Buffer<T>(*mut T, usize);

impl<T: Number> Buffer<T> {
    /// # Safety
    /// NULL, or `len` values that are the call's to write. They may be uninitialised.
    pub(crate) unsafe fn new(pointer: *mut T, len: usize, what: &str) -> Result<Buffer<T>> {
        if len > 0 {
            check(pointer, len, what)?;
        }
        Ok(Buffer(pointer, len))
    }

    /// Values `first..first + len`, all zero; none where they are not all in the buffer.
    pub(crate) fn part(&mut self, first: usize, len: usize) -> &mut [T] {
        if len == 0 || first.checked_add(len).is_none_or(|end| end > self.1) {
            return &mut [];
        }
        // SAFETY: inside the buffer, which is aligned and the call's to write; zeros make the values defined before a
        // reference is made.
        unsafe {
            let part = self.0.add(first);
            part.write_bytes(0, len);
            std::slice::from_raw_parts_mut(part, len)
        }
    }
}

/// Number types, for which all-zero bits are a valid value.
pub(crate) trait Number: Copy {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for f32 {}

fn check<T>(pointer: *const T, len: usize, what: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!("{what} is not aligned")));
    }
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Failure::argument(format!("{what} is larger than memory"))),
    }
}

/// Stores a new handle; an error if the target is NULL.
///
/// # Safety
/// NULL, or a valid target for a pointer.
pub(crate) unsafe fn hand_out<T>(out: *mut *mut T, make: impl FnOnce() -> Result<T>) -> Result<()> {
    if out.is_null() {
        return Err(Failure::argument("the place for the new handle is NULL"));
    }
    // SAFETY: not NULL, and valid by the caller's promise. Written first, so that a failure leaves NULL.
    unsafe { out.write(std::ptr::null_mut()) };
    let handle = handle(make()?)?;
    // SAFETY: not NULL, and valid by the caller's promise.
    unsafe { out.write(handle) };
    Ok(())
}

/// Moves a value to the heap, for [`take_back`]. A vector may be refused its memory, a box may not.
pub(crate) fn handle<T>(value: T) -> Result<*mut T> {
    let mut place = room(1)?;
    place.push(value);
    // A box of one value has the layout of a box of a slice of one.
    Ok(Box::into_raw(place.into_boxed_slice()).cast())
}

/// Frees a handle; NULL does nothing.
///
/// # Safety
/// NULL, or a handle from [`handle`] that nobody uses any more.
pub(crate) unsafe fn take_back<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: made by [`handle`], and not freed before, by the caller's promise.
        let handle = unsafe { Box::from_raw(handle) };
        // Nothing may unwind into C; there is nobody to tell either.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(handle)));
    }
}

/// A copy of the caller's values, for a call whose callbacks may change them.
///
/// # Safety
/// NULL, or `len` values that are valid when this is called.
pub(crate) unsafe fn copy<T: Number>(pointer: *const T, len: usize, what: &str) -> Result<Vec<T>> {
    let mut copy = room(len)?;
    // SAFETY: the caller's promise.
    copy.extend_from_slice(unsafe { slice(pointer, len, what)? });
    Ok(copy)
}

/// An empty vector with room for so many values.
pub(crate) fn room<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let memory = |_| Failure::from(denoir::Error::Memory(len.saturating_mul(size_of::<T>())));
    values.try_reserve_exact(len).map_err(memory)?;
    Ok(values)
}

/// Copies as much of a text as fits, and a NUL. Returns the length of the whole text without the NUL.
///
/// # Safety
/// NULL, or `size` writable bytes.
pub(crate) unsafe fn copy_text(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if !buffer.is_null() && size > 0 {
        // Whole characters only.
        let fits = (0..=text.len().min(size - 1)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        // SAFETY: `fits` + 1 is at most `size`, which the caller promises; the text is no part of the buffer.
        unsafe {
            buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), fits);
            buffer.add(fits).write(0);
        }
    }
    text.len()
}
