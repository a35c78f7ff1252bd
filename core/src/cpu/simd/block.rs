//! What products work on: rows of a panel's width, blocks of rows, matrices of columns.

use bytemuck::Zeroable;

use crate::built;

/// Rows of a block at most.
pub(in crate::cpu) const MAX_ROWS: usize = if built::SMALL { 4 } else { 32 };
/// Columns of a panel at most.
pub(in crate::cpu) const MAX_PANEL: usize = 64;
/// Bytes to which a panel's columns are padded along `k`.
pub(in crate::cpu) const CHUNK: usize = 64;

/// A row of a panel's width.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::cpu) struct Lines<const N: usize>([f32; N]);

// SAFETY: nothing but floats.
unsafe impl<const N: usize> Zeroable for Lines<N> {}

/// [`Lines`] of an instruction set's own width.
pub(in crate::cpu) trait Row: Copy + Zeroable {
    /// All columns `x`.
    fn splat(x: f32) -> Self;
    /// The columns.
    fn columns(&mut self) -> &mut [f32];
    /// The columns, to read.
    fn as_columns(&self) -> &[f32];
    /// The columns of rows, one row after another.
    fn flattened(rows: &mut [Self]) -> &mut [f32];
}

impl<const N: usize> Row for Lines<N> {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Lines([x; N])
    }

    #[inline(always)]
    fn columns(&mut self) -> &mut [f32] {
        &mut self.0
    }

    #[inline(always)]
    fn as_columns(&self) -> &[f32] {
        &self.0
    }

    #[inline(always)]
    fn flattened(rows: &mut [Self]) -> &mut [f32] {
        const { assert!(size_of::<Self>() == 4 * N) };
        // SAFETY: rows of N floats without padding between them, as just asserted.
        unsafe { core::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), rows.len() * N) }
    }
}

/// Some rows of sums.
pub(in crate::cpu) trait RowArray<P>: Copy {
    /// How many.
    const COUNT: usize;
    /// All zero.
    fn new() -> Self;
    /// The rows.
    fn rows(&mut self) -> &mut [P];
}

impl<P: Row, const N: usize> RowArray<P> for [P; N] {
    const COUNT: usize = N;

    #[inline(always)]
    fn new() -> Self {
        [P::splat(0.0); N]
    }

    #[inline(always)]
    fn rows(&mut self) -> &mut [P] {
        self
    }
}

/// Rows of activations that meet a panel.
///
/// Whoever makes one promises: `x` is readable for `rows` rows of `k` elements, `stride` bytes apart; `w` is a packed
/// panel of the instruction set for `k`, or a stretch of one; `rows` is not 0, and at most what the kernel called for
/// takes; `sums` is writable for as many rows of a panel's width as that, and where sums are to be added to, it holds
/// some.
pub(in crate::cpu) struct Block<'s> {
    pub(in crate::cpu) x: *const u8,
    /// Bytes from one row of `x` to the next.
    pub(in crate::cpu) stride: usize,
    /// Where rows of int8 are as [`Simd::rewrite_i8`](super::Simd::rewrite_i8) writes them: the bytes from a row's first
    /// part to its second.
    #[cfg_attr(
        not(all(feature = "simd", target_arch = "x86_64")),
        allow(dead_code, reason = "others take activations as they are")
    )]
    pub(in crate::cpu) part: Option<usize>,
    pub(in crate::cpu) rows: usize,
    /// Elements of a row.
    pub(in crate::cpu) k: usize,
    pub(in crate::cpu) w: *const u8,
    /// Sums of products, f32 or the bits of i32: row after row of a panel's width.
    pub(in crate::cpu) sums: *mut f32,
    /// Whether the products are added to what `sums` holds, which is that of the panel's earlier stretches.
    pub(in crate::cpu) add: bool,
    /// What is worth fetching meanwhile: part of the panel that will be read next.
    pub(in crate::cpu) next: &'s [u8],
}

/// Products of a matrix, read one group at a time, with rows of a panel's width; what was there before counts `keep`
/// times, column by column, or is not read where `keep` is null. A group is an f32, or a pair of bfloat16.
///
/// Whoever makes one promises: `x` is readable for `rows · k` groups at these steps, `w` for `k` rows of groups,
/// `keep` for one of f32 if it is not null, and `out` writable for `rows` rows of f32, and then readable as well, all
/// rows of a panel's width.
pub(in crate::cpu) struct Columns {
    pub(in crate::cpu) x: *const f32,
    /// Groups from one row of `x` to the next, and from one `k` to the next.
    pub(in crate::cpu) x_steps: [usize; 2],
    pub(in crate::cpu) rows: usize,
    pub(in crate::cpu) k: usize,
    pub(in crate::cpu) w: *const f32,
    pub(in crate::cpu) keep: *const f32,
    pub(in crate::cpu) out: *mut f32,
    /// Whether the first half of the columns is enough.
    pub(in crate::cpu) half: bool,
}
