//! A block of memory that is handed out piece by piece, for callers without an allocator.

use core::mem::MaybeUninit;

/// Starts at a multiple of 64, as a model file and an arena must.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(
    /// What starts there.
    pub T,
);

/// Memory that is handed out from its start, each piece at a multiple of 64.
#[derive(Debug)]
pub struct Room<'a>(&'a mut [u8]);

/// The room's memory has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that are missing.
    pub missing: usize,
}

impl core::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes more are needed", self.missing)
    }
}

impl core::error::Error for NoRoom {}

impl<'a> Room<'a> {
    /// All of `memory`, from its first multiple of 64 on.
    pub fn new(memory: &'a mut [u8]) -> Room<'a> {
        Room(memory)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn bytes(&mut self, len: usize) -> Result<&'a mut [u8], NoRoom> {
        let skipped = self.0.as_ptr().align_offset(64);
        let needed = skipped.saturating_add(len);
        let missing = NoRoom { missing: needed.saturating_sub(self.0.len()) };
        let (piece, left) = core::mem::take(&mut self.0).split_at_mut_checked(needed).ok_or(missing)?;
        self.0 = left;
        Ok(&mut piece[skipped..])
    }

    /// Room for a value that is too large for the stack, such as a model.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn place<T>(&mut self) -> Result<&'a mut MaybeUninit<T>, NoRoom> {
        const { assert!(align_of::<T>() <= 64) };
        let piece = self.bytes(size_of::<T>())?.as_mut_ptr();
        // SAFETY: bytes of this size that nobody else refers to, at a multiple of T's alignment.
        Ok(unsafe { &mut *piece.cast() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_end_with_the_room() {
        let mut memory = Aligned([0u8; 256]);
        let mut room = Room::new(&mut memory.0[1..]);
        let first = room.bytes(3).unwrap();
        assert!(first.len() == 3 && first.as_ptr().addr().is_multiple_of(64));
        let second: &mut MaybeUninit<u64> = room.place().unwrap();
        assert_eq!(core::ptr::from_mut(second).addr(), first.as_ptr().addr() + 64);
        assert_eq!(room.bytes(100).unwrap_err(), NoRoom { missing: 36 });
    }
}
