//! The one door for sizes, offsets and counts that come from a file.
//!
//! A reader of hostile bytes must never index, add or multiply without a check. Everything that reads a file
//! here goes through [`Cursor`] (reads), [`elements`] and [`byte_len`] (products) and [`align_up`].

/// The bytes end before the value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Byte offset at which the value starts.
    pub offset: u64,
}

/// A position in a byte slice that only moves forward and never past the end. All integers are little-endian.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, pos: 0 }
    }

    /// Byte offset from the start of the slice.
    pub const fn offset(&self) -> u64 {
        self.pos as u64
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        self.bytes.len().saturating_sub(self.pos) as u64
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Short`] if fewer are left; the cursor then stays where it was.
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], Short> {
        let short = Short { offset: self.offset() };
        let end = usize::try_from(len).ok().and_then(|len| self.pos.checked_add(len)).ok_or(short)?;
        let taken = self.bytes.get(self.pos..end).ok_or(short)?;
        self.pos = end;
        Ok(taken)
    }

    /// Moves `len` bytes on.
    ///
    /// # Errors
    /// [`Short`] if fewer are left.
    pub fn skip(&mut self, len: u64) -> Result<(), Short> {
        self.take(len).map(|_| ())
    }

    /// The next `N` bytes, by value.
    ///
    /// # Errors
    /// [`Short`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let offset = self.offset();
        self.take(N as u64)?.try_into().map_err(|_| Short { offset })
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Short`] at the end.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next 16-bit unsigned integer.
    ///
    /// # Errors
    /// [`Short`] if fewer bytes are left.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 32-bit unsigned integer.
    ///
    /// # Errors
    /// [`Short`] if fewer bytes are left.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 64-bit unsigned integer.
    ///
    /// # Errors
    /// [`Short`] if fewer bytes are left.
    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Number of elements of a tensor of these dimensions, 1 for a scalar; `None` on overflow.
pub fn elements(dims: &[u64]) -> Option<u64> {
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
}

/// Bytes of `elements` stored in blocks of `block` elements and `block_bytes` bytes.
///
/// `None` on overflow, or where `elements` is no whole number of blocks.
pub fn byte_len(elements: u64, block: u64, block_bytes: u64) -> Option<u64> {
    if block == 0 || !elements.is_multiple_of(block) {
        return None;
    }
    (elements / block).checked_mul(block_bytes)
}

/// The next multiple of `alignment` (a power of two) at or after `offset`; `None` on overflow.
pub fn align_up(offset: u64, alignment: u64) -> Option<u64> {
    let mask = alignment.checked_sub(1)?;
    Some(offset.checked_add(mask)? & !mask)
}

/// `bytes[offset..offset + len]`, or `None` where that is not inside.
pub fn range(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_stays_put_when_short() {
        let mut c = Cursor::new(&[1, 2, 3]);
        assert_eq!(c.u16(), Ok(0x0201));
        assert_eq!(c.u32(), Err(Short { offset: 2 }));
        assert_eq!(c.take(u64::MAX), Err(Short { offset: 2 }));
        assert_eq!(c.u8(), Ok(3));
        assert_eq!(c.remaining(), 0);
    }

    #[test]
    fn products_and_alignment_are_checked() {
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[1 << 32, 1 << 32]), None);
        assert_eq!(byte_len(64, 32, 34), Some(68));
        assert_eq!(byte_len(33, 32, 34), None);
        assert_eq!(byte_len(1, 0, 1), None);
        assert_eq!(align_up(65, 64), Some(128));
        assert_eq!(align_up(u64::MAX, 64), None);
        assert_eq!(align_up(5, 0), None);
        assert_eq!(range(&[1, 2, 3], 1, 2), Some(&[2u8, 3][..]));
        assert_eq!(range(&[1, 2, 3], 2, 2), None);
        assert_eq!(range(&[1, 2, 3], u64::MAX, 2), None);
    }
}
