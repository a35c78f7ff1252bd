//! Matrices of the two regions, for tiles that run at the same time.

use core::marker::PhantomData;

use bytemuck::Pod;

use crate::View;

/// A matrix to read.
pub(super) struct Source<'a, T> {
    first: *const T,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
    lives: PhantomData<&'a [T]>,
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

// SAFETY: read-only plain data.
unsafe impl<T: Sync> Sync for Source<'_, T> {}

impl<'a> Source<'a, u8> {
    /// The bytes of a matrix's rows, of which `bytes` starts with the first element.
    ///
    /// # Panics
    /// If they are fewer.
    pub(super) fn of_bytes(bytes: &'a [u8], view: &View) -> Source<'a, u8> {
        let size = view.dtype.size();
        let (rows, cols, stride) = (view.rows, view.cols * size, view.stride.saturating_mul(size));
        let end = |last: usize| last.checked_mul(stride).and_then(|start| start.checked_add(cols));
        assert!(rows == 0 || end(rows - 1).is_some_and(|end| end <= bytes.len()));
        Source { first: bytes.as_ptr(), rows, cols, stride, lives: PhantomData }
    }
}

impl<'a, T: Pod> Source<'a, T> {
    /// # Safety
    /// `first` is the view's first element, all of whose rows can be read, and nobody writes to them while the result
    /// lives.
    pub(super) unsafe fn new(first: *const T, view: &View) -> Source<'a, T> {
        Source { first, rows: view.rows, cols: view.cols, stride: view.stride, lives: PhantomData }
    }

    /// Row `r`.
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows);
        // SAFETY: the row is inside the view, which was checked.
        unsafe { core::slice::from_raw_parts(self.first.add(r * self.stride), self.cols) }
    }

    /// Element `(r, c)`, and nothing beside it: other tiles may be writing that.
    #[inline(always)]
    pub(super) fn element(&self, r: usize, c: usize) -> T {
        assert!(r < self.rows && c < self.cols);
        // SAFETY: the element is inside the view, which was checked.
        unsafe { *self.first.add(r * self.stride + c) }
    }

    /// A pointer to element `(r, c)`, from which the rows after this one can be read too.
    #[inline(always)]
    pub(super) fn pointer(&self, r: usize, c: usize) -> *const T {
        assert!(r < self.rows && c < self.cols);
        // SAFETY: the element is inside the view, which was checked.
        unsafe { self.first.add(r * self.stride + c) }
    }
}

/// A matrix to write.
pub(super) struct Target<'a, T> {
    first: *mut T,
    pub(super) rows: usize,
    pub(super) cols: usize,
    stride: usize,
    lives: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Target<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Target<'_, T> {}

// SAFETY: plain data; `part` and `row` promise disjoint access.
unsafe impl<T: Send> Sync for Target<'_, T> {}

impl<'a, T: Pod> Target<'a, T> {
    /// # Safety
    /// `first` is the view's first element, all of whose rows can be written, and each element is touched by one tile at
    /// a time.
    pub(super) unsafe fn new(first: *mut T, view: &View) -> Target<'a, T> {
        Target { first, rows: view.rows, cols: view.cols, stride: view.stride, lives: PhantomData }
    }

    /// Columns `start..start + len` of row `r`.
    ///
    /// # Safety
    /// No other tile touches them while the result lives.
    #[inline(always)]
    pub(super) unsafe fn part(&self, r: usize, start: usize, len: usize) -> &'a mut [T] {
        assert!(r < self.rows && start + len <= self.cols);
        // SAFETY: inside the view, which was checked; exclusive as promised.
        unsafe { core::slice::from_raw_parts_mut(self.first.add(r * self.stride + start), len) }
    }

    /// Row `r`.
    ///
    /// # Safety
    /// No other tile touches it while the result lives.
    #[inline(always)]
    pub(super) unsafe fn row(&self, r: usize) -> &'a mut [T] {
        // SAFETY: the caller promises that no other tile touches the row.
        unsafe { self.part(r, 0, self.cols) }
    }
}

/// A modulation table with the row of each image.
#[derive(Clone, Copy)]
pub(super) struct ModulationSource<'a> {
    pub(super) table: Source<'a, f32>,
    pub(super) rows: Source<'a, u32>,
}

impl<'a> ModulationSource<'a> {
    /// Columns `start..start + len` of an image's row.
    #[inline(always)]
    pub(super) fn vector(&self, image: usize, start: usize, len: usize) -> &'a [f32] {
        &self.table.row(self.rows.row(0)[image] as usize)[start..start + len]
    }
}
