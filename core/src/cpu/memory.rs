//! The one place where views become pointers.

use core::marker::PhantomData;

use bytemuck::Pod;

use super::matrix::{ModulationSource, Source, Target};
use super::pack::{Packed, PackedWeight};
use super::shape::Shape;
use crate::ops::Bounds;
use crate::{DType, Modulation, Region, View, Weight};

/// The two regions. Copies of it are handed to tiles that run at the same time; each writes rows of its own.
#[derive(Clone, Copy)]
pub(super) struct Arena<'a> {
    weights: &'a [u8],
    packed: Option<Packed<'a>>,
    threads: usize,
    shape: Shape,
    streams: bool,
    scratch: (*mut u8, usize),
    arena: *mut u8,
    len: usize,
    lives: PhantomData<&'a mut [u8]>,
}

// SAFETY: the pointer is to plain bytes that this borrows exclusively; access is through views whose users promise
// that concurrent writes are disjoint.
unsafe impl Send for Arena<'_> {}
// SAFETY: access to the bytes is through views whose users promise that concurrent writes are disjoint.
unsafe impl Sync for Arena<'_> {}

impl<'a> Arena<'a> {
    /// `None` unless both start at a multiple of 64, the largest alignment that a kernel asks for.
    pub(super) fn new(weights: &'a [u8], arena: &'a mut [u8], threads: usize, shape: Shape) -> Option<Self> {
        let aligned = |p: *const u8| p.addr().is_multiple_of(64);
        let this = Arena {
            weights,
            packed: None,
            threads,
            shape,
            streams: false,
            scratch: (core::ptr::null_mut(), 0),
            arena: arena.as_mut_ptr(),
            len: arena.len(),
            lives: PhantomData,
        };
        (aligned(weights.as_ptr()) && aligned(this.arena)).then_some(this)
    }

    /// Takes packed weights as well.
    pub(super) fn with_packed(self, packed: Packed<'a>) -> Self {
        Arena { packed: Some(packed), ..self }
    }

    /// Says whether the kernels that follow read each weight once for a few rows: then all lie in the file.
    pub(super) fn set_streams(&mut self, streams: bool) {
        self.streams = streams;
    }

    /// Whether the kernels under way read each weight once for a few rows.
    pub(super) fn streams(&self) -> bool {
        self.streams
    }

    /// The packed form of a weight matrix, where there is one.
    pub(super) fn packed(&self, weight: &Weight) -> Option<PackedWeight<'a>> {
        self.packed.as_ref().filter(|_| !self.streams)?.find(weight)
    }

    /// Takes memory that a kernel's tiles work in.
    pub(super) fn with_scratch(self, scratch: &'a mut [u8]) -> Self {
        let skipped = scratch.as_ptr().align_offset(64).min(scratch.len());
        let scratch = &mut scratch[skipped..];
        Arena { scratch: (scratch.as_mut_ptr(), scratch.len()), ..self }
    }

    /// Memory for tiles of `bytes` each, a multiple of 64, and how many of them there is room for; `None`: not for one.
    pub(super) fn scratch(&self, bytes: usize) -> Option<(*mut u8, usize)> {
        let tiles = self.scratch.1 / bytes;
        (tiles > 0).then_some((self.scratch.0, tiles))
    }

    /// How many tiles run at once.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// How panels of the instruction set in use look.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { weights: self.weights.len(), arena: self.len }
    }

    /// Copies into the arena, from byte `at` on.
    pub(super) fn upload(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: `&mut self` on the backend's own copy: no tile runs.
        let arena = unsafe { core::slice::from_raw_parts_mut(self.arena, self.len) };
        arena[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Copies out of the arena, from byte `at` on.
    pub(super) fn download(&mut self, at: usize, bytes: &mut [u8]) {
        // SAFETY: `&mut self` on the backend's own copy: no tile runs.
        let arena = unsafe { core::slice::from_raw_parts(self.arena, self.len) };
        bytes.copy_from_slice(&arena[at..at + bytes.len()]);
    }

    /// A readable matrix.
    ///
    /// # Safety
    /// The view was checked against `bounds`, holds elements of `T`, and nobody writes to it while the result lives.
    pub(super) unsafe fn source<T: Pod>(&self, view: &View) -> Source<'a, T> {
        debug_assert_eq!(view.dtype.size(), size_of::<T>());
        let base = match view.region {
            Region::Weights => self.weights.as_ptr(),
            Region::Arena => self.arena.cast_const(),
        };
        // SAFETY: the offset is inside the region.
        let first = unsafe { base.add(view.offset) }.cast();
        // SAFETY: the caller checked the view, and promises that nobody writes to it.
        unsafe { Source::new(first, view) }
    }

    /// A readable matrix as bytes.
    ///
    /// # Safety
    /// The view was checked against `bounds`, and nobody writes to it while the result lives.
    pub(super) unsafe fn bytes_of_rows(&self, view: &View) -> Source<'a, u8> {
        let size = view.dtype.size();
        // Where there is one row, or none, the stride may be any number.
        let (cols, stride) = (view.cols.saturating_mul(size), view.stride.saturating_mul(size));
        let view = View { dtype: DType::I8, cols, stride, ..*view };
        // SAFETY: the same bytes.
        unsafe { self.source(&view) }
    }

    /// A writable matrix.
    ///
    /// # Safety
    /// The view was checked against `bounds` as an output, holds elements of `T`, and each of its elements is
    /// touched by one tile at a time.
    pub(super) unsafe fn target<T: Pod>(&self, view: &View) -> Target<'a, T> {
        debug_assert_eq!(view.dtype.size(), size_of::<T>());
        // SAFETY: the offset is inside the arena.
        let first = unsafe { self.arena.add(view.offset) }.cast();
        // SAFETY: the caller checked the view, and promises what tiles touch.
        unsafe { Target::new(first, view) }
    }

    /// The modulation table and its row numbers.
    ///
    /// # Safety
    /// As [`Arena::source`].
    pub(super) unsafe fn modulation(&self, m: &Modulation) -> ModulationSource<'a> {
        // SAFETY: the caller checked both views, and nobody writes to them.
        unsafe { ModulationSource { table: self.source(&m.table), rows: self.source(&m.rows) } }
    }
}
