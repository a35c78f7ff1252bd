use bytemuck::{Pod, Zeroable};

use crate::reserve::fallibly;

/// The alignment of the engine's memory: a cache line.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes aligned to 64.
pub struct AlignedBytes {
    lines: Box<[Line]>,
    len: usize,
}

impl AlignedBytes {
    /// An empty, aligned buffer.
    pub(crate) fn none() -> &'static [u8] {
        const NONE: &[Line] = &[];
        bytemuck::cast_slice(NONE)
    }

    /// `len` zeros. Pages are not touched until they are used.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) if the allocation fails.
    pub fn zeroed(len: usize) -> Result<Self, crate::Error> {
        let lines = fallibly(|| bytemuck::allocation::try_zeroed_slice_box(len.div_ceil(64)));
        Ok(AlignedBytes { lines: lines.map_err(|()| crate::Error::Memory(len))?, len })
    }

    /// A copy of the bytes.
    ///
    /// # Errors
    /// As [`AlignedBytes::zeroed`].
    pub fn copied(bytes: &[u8]) -> Result<Self, crate::Error> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.as_mut_slice().copy_from_slice(bytes);
        Ok(copy)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The bytes, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// An empty vector with room for so many.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory).
pub(crate) fn reserved<T>(len: usize) -> Result<Vec<T>, crate::Error> {
    let mut values = Vec::new();
    match fallibly(|| values.try_reserve_exact(len)) {
        Ok(()) => Ok(values),
        Err(_) => Err(crate::Error::Memory(len.saturating_mul(size_of::<T>()))),
    }
}

/// A copy of a text.
///
/// # Errors
/// As [`reserved`].
pub(crate) fn owned(text: &str) -> Result<String, crate::Error> {
    let mut copy = String::new();
    fallibly(|| copy.try_reserve_exact(text.len())).map_err(|_| crate::Error::Memory(text.len()))?;
    copy.push_str(text);
    Ok(copy)
}

/// So many zeros.
///
/// # Errors
/// As [`reserved`].
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>, crate::Error> {
    let mut values = reserved(len)?;
    values.resize(len, 0.0);
    Ok(values)
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}
