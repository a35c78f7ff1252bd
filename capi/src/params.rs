//! Structures whose first field is their size. Later versions add fields at the end, so programs and libraries of
//! different versions work together.

use std::ptr;

use crate::status::{Failure, Result};

/// A structure that a program passes to the library.
///
/// # Safety
/// `repr(C)`, without padding that matters, valid for all bits zero, and its first field is a `usize` that holds its
/// size in bytes.
pub(crate) unsafe trait Params: Copy {
    /// The structure's name in messages.
    const NAME: &'static str;
    /// The defaults for fields that an older program does not know.
    fn defaults() -> Self;
}

/// No structure of any version is larger, so that a size that was never set does not lead far beyond the structure.
const MOST_BYTES: usize = 1024;

/// Reads a structure from a program of any version. Fields that the program lacks get their defaults; fields that this
/// library lacks must be zero.
///
/// # Safety
/// NULL, or a valid pointer to as many bytes as its first field says, up to [`MOST_BYTES`].
pub(crate) unsafe fn read<P: Params>(from: *const P) -> Result<P> {
    let bad = |what: &str| Err(Failure::argument(format!("{}: {what}", P::NAME)));
    if from.is_null() {
        return bad("is NULL");
    }
    if !from.is_aligned() {
        return bad("is not aligned");
    }
    // SAFETY: the first field is there by the caller's promise.
    let size = unsafe { from.cast::<usize>().read() };
    if !(size_of::<usize>()..=MOST_BYTES).contains(&size) {
        return bad("struct_size is not set: call its _init function first");
    }
    let known = size.min(size_of::<P>());
    for i in known..size {
        // SAFETY: `size` bytes are there by the caller's promise.
        if unsafe { from.cast::<u8>().add(i).read() } != 0 {
            return bad("has settings that this version of the library does not know");
        }
    }
    let mut params = P::defaults();
    // SAFETY: both are at least `known` bytes long and do not overlap.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut params).cast::<u8>(), known) };
    Ok(params)
}

/// Writes a structure to `size` bytes of a program of any version, with `size` as its first field.
///
/// # Safety
/// NULL, or `size` writable bytes.
pub(crate) unsafe fn write<P: Params>(mut params: P, to: *mut P, size: usize) -> Result<()> {
    let bad = |what: &str| Err(Failure::argument(format!("{}: {what}", P::NAME)));
    if to.is_null() {
        return bad("is NULL");
    }
    if !to.is_aligned() {
        return bad("is not aligned");
    }
    if !(size_of::<usize>()..=MOST_BYTES).contains(&size) {
        return bad("its size is not that of a structure");
    }
    // SAFETY: the first field is a `usize`, as the trait promises.
    unsafe { (&raw mut params).cast::<usize>().write(size) };
    let known = size.min(size_of::<P>());
    // SAFETY: both are at least `known` bytes long and do not overlap; the rest of `size` is zeroed.
    unsafe {
        ptr::copy_nonoverlapping((&raw const params).cast::<u8>(), to.cast::<u8>(), known);
        to.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}
