//! Products of rows of activations with a panel of packed weights: one loop for every element type.

use half::{bf16, f16};

use super::block::{Block, Columns};
use super::{Element, Simd};
use crate::built;

/// Bytes of a cache line.
const LINE: usize = 64;

/// How elements of one pair of types are multiplied, a group of consecutive `k` at a time.
pub(in crate::cpu) trait Product<S: Simd> {
    /// Whether this build multiplies these types.
    const IS_BUILT: bool;
    /// Elements of a group.
    const GROUP: usize;
    /// In how many parts a group is multiplied, so that one part's weights fit the registers beside the sums.
    const PARTS: usize = 1;
    /// Bytes of an activation.
    const X_BYTES: usize;
    /// Bytes of a weight.
    const W_BYTES: usize;
    /// Sums of a vector of columns.
    type Sum: Copy;
    /// A group of weights of a vector of columns.
    type W: Copy;
    /// A group of activations.
    type X: Copy;
    fn zero(s: S) -> Self::Sum;
    /// # Safety
    /// `from` is readable for a group of each column of a vector.
    unsafe fn weights(s: S, from: *const u8, part: usize) -> Self::W;
    /// # Safety
    /// `from` is readable for a group.
    unsafe fn input(s: S, from: *const u8, part: usize) -> Self::X;
    fn add(s: S, sum: Self::Sum, w: Self::W, x: Self::X) -> Self::Sum;
    /// # Safety
    /// `from` is readable for a vector.
    unsafe fn load(s: S, from: *const f32) -> Self::Sum;
    /// # Safety
    /// `to` is writable for a vector.
    unsafe fn store(s: S, to: *mut f32, sum: Self::Sum);
}

/// `R` rows times `V` vectors of columns, all sums in registers. Each sum is over `k` in order, whatever the rows
/// beside it, so that results do not depend on how rows are cut into blocks.
///
/// # Safety
/// The block's promises.
#[cfg_attr(feature = "simd", inline(always))]
pub(in crate::cpu) unsafe fn block<S: Simd, P: Product<S>, const R: usize, const V: usize>(s: S, b: &mut Block<'_>) {
    if !P::IS_BUILT {
        return;
    }
    let mut sums = [[P::zero(s); V]; R];
    if b.add {
        for (i, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: R rows of V vectors, as promised.
                *sum = unsafe { P::load(s, b.sums.add(i * S::PANEL + v * S::LANES)) };
            }
        }
    }
    let mut x = [b.x; R];
    for (i, x) in x.iter_mut().enumerate() {
        // SAFETY: rows past the last repeat it.
        *x = unsafe { x.add(i.min(b.rows - 1) * b.stride) };
    }
    let (x_group, w_group) = (P::GROUP * P::X_BYTES, P::GROUP * P::W_BYTES * S::PANEL);
    let groups = b.k / P::GROUP;
    let mut w = b.w;
    // Spread over the groups: many fetches at once would hold up the loads between them.
    let mut next = b.next.as_ptr();
    let next_step = b.next.len().div_ceil(groups.max(1)).min(LINE);
    for k in 0..groups {
        s.prefetch(next);
        next = next.wrapping_add(next_step);
        // SAFETY: group `k` of each row, and of the panel, which then goes on at least to its end.
        unsafe {
            step::<S, P, R, V>(s, &mut sums, &x, k * x_group, w);
            w = w.add(w_group);
        }
    }
    let rest = b.k % P::GROUP * P::X_BYTES;
    if rest > 0 {
        let mut tails = [[0u64; 2]; R];
        for (tail, x) in tails.iter_mut().zip(&mut x) {
            let to = tail.as_mut_ptr().cast::<u8>();
            // SAFETY: `rest` bytes are left of the row, fewer than the 16 of `tail`.
            unsafe { core::ptr::copy_nonoverlapping(x.add(groups * x_group), to, rest) };
            *x = to.cast_const();
        }
        // SAFETY: a group; panels are padded with zeros to whole ones.
        unsafe { step::<S, P, R, V>(s, &mut sums, &x, 0, w) };
    }
    for (i, sums_of_row) in sums.iter().enumerate() {
        for (v, sum) in sums_of_row.iter().enumerate() {
            // SAFETY: R rows of V vectors, as promised.
            unsafe { P::store(s, b.sums.add(i * S::PANEL + v * S::LANES), *sum) };
        }
    }
}

/// Adds the products of one group, at byte `at` of each row.
///
/// Loops instead of iterators that take closures, here and wherever vectors are computed: a closure is a function of
/// its own, compiled without the instruction set unless it is inlined, which only `#[inline(always)]` on it assures.
///
/// # Safety
/// The group is readable in every row and in the panel.
#[inline(always)]
unsafe fn step<S: Simd, P: Product<S>, const R: usize, const V: usize>(
    s: S,
    sums: &mut [[P::Sum; V]; R],
    x: &[*const u8; R],
    at: usize,
    w: *const u8,
) {
    let vector = P::GROUP * P::W_BYTES * S::LANES;
    for part in 0..P::PARTS {
        // SAFETY: the caller promises that the elements of this step can be read.
        let mut weights = [unsafe { P::weights(s, w, part) }; V];
        for (v, weights) in weights.iter_mut().enumerate().skip(1) {
            // SAFETY: the caller promises that the elements of this step can be read.
            *weights = unsafe { P::weights(s, w.add(v * vector), part) };
        }
        for (sums, x) in sums.iter_mut().zip(x) {
            // SAFETY: the caller promises that the elements of this step can be read.
            let x = unsafe { P::input(s, x.add(at), part) };
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum = P::add(s, *sum, w, x);
            }
        }
    }
}

/// [`Columns`] for the first `V` vectors of columns, `R` rows at a time.
///
/// # Safety
/// The promises of [`Columns`].
#[cfg_attr(feature = "simd", inline(always))]
pub(in crate::cpu) unsafe fn columns<S, P, const R: usize, const V: usize>(s: S, c: &Columns)
where
    S: Simd,
    P: Product<S, Sum = S::F32>,
{
    const { assert!(P::GROUP * P::X_BYTES == 4 && P::GROUP * P::W_BYTES == 4 && P::PARTS == 1) };
    for first in (0..c.rows).step_by(R) {
        let rows = R.min(c.rows - first);
        let mut x = [c.x; R];
        let mut sums = [[s.splat(0.0); V]; R];
        for (i, (sums, x)) in sums.iter_mut().zip(&mut x).enumerate() {
            // Rows past the last repeat it.
            let row = first + i.min(rows - 1);
            for (v, sum) in sums.iter_mut().enumerate().filter(|_| !c.keep.is_null()) {
                // SAFETY: promised.
                unsafe {
                    let old = s.load(c.out.add(row * S::PANEL + v * S::LANES));
                    *sum = s.mul(old, s.load(c.keep.add(v * S::LANES)));
                }
            }
            // SAFETY: promised.
            *x = unsafe { x.add(row * c.x_steps[0]) };
        }
        for k in 0..c.k {
            // SAFETY: promised.
            let mut w = [unsafe { P::weights(s, c.w.add(k * S::PANEL).cast(), 0) }; V];
            for (v, w) in w.iter_mut().enumerate().skip(1) {
                // SAFETY: promised.
                *w = unsafe { P::weights(s, c.w.add(k * S::PANEL + v * S::LANES).cast(), 0) };
            }
            for (sums, x) in sums.iter_mut().zip(x) {
                // SAFETY: promised.
                let x = unsafe { P::input(s, x.add(k * c.x_steps[1]).cast(), 0) };
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = P::add(s, *sum, w, x);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(rows) {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: promised.
                unsafe { s.store(c.out.add((first + i) * S::PANEL + v * S::LANES), *sum) };
            }
        }
    }
}

/// Every `block_*` of an instruction set by [`block`], with register tiles of this many rows and vectors, and
/// `columns` and its like with as many or half as many.
macro_rules! blocks {
    ($rows:literal, $vectors:literal, $half:literal) => {
        blocks!($rows, $vectors, block_f32: F32, block_wide_f16: WideF16, block_wide_bf16: WideBF16, block_f16: F16);
        blocks!($rows, $vectors, block_bf16: WidenedBF16);
        blocks!(columns $rows, $vectors, $half, columns: F32);
    };
    (columns $rows:literal, $vectors:literal, $half:literal, $($name:ident: $product:ident),*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self, c: &$crate::cpu::simd::block::Columns) {
                use $crate::cpu::simd::product::{self, columns};
                // SAFETY: the caller promises that the elements of this step can be read.
                unsafe {
                    if c.half {
                        columns::<Self, product::$product, $rows, $half>(self, c)
                    } else {
                        columns::<Self, product::$product, $rows, $vectors>(self, c)
                    }
                }
            }
        )*
    };
    ($rows:literal, $vectors:literal, $($name:ident: $product:ident),*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self, b: &mut $crate::cpu::simd::block::Block<'_>) {
                use $crate::cpu::simd::product;
                // SAFETY: the caller promises that operands and sums are as large as the block says.
                unsafe { product::block::<Self, product::$product, $rows, $vectors>(self, b) }
            }
        )*
    };
}
pub(super) use blocks;

/// A sum in f32 of one product per group.
macro_rules! single {
    ($(#[$doc:meta])* $name:ident: $x:ty, $w:ty, $load_x:path, $load_w:ident) => {
        $(#[$doc])*
        pub(in crate::cpu) struct $name;

        impl<S: Simd> Product<S> for $name {
            const IS_BUILT: bool = <$x>::ACTIVATIONS && <$w>::WEIGHTS;
            const GROUP: usize = 1;
            const X_BYTES: usize = size_of::<$x>();
            const W_BYTES: usize = size_of::<$w>();
            type Sum = S::F32;
            type W = S::F32;
            type X = S::F32;

            #[inline(always)]
            fn zero(s: S) -> S::F32 {
                s.splat(0.0)
            }

            #[inline(always)]
            unsafe fn weights(s: S, from: *const u8, _: usize) -> S::F32 {
                // SAFETY: the caller promises that a vector can be read.
                unsafe { s.$load_w(from.cast::<$w>()) }
            }

            #[inline(always)]
            unsafe fn input(s: S, from: *const u8, _: usize) -> S::F32 {
                // SAFETY: the caller promises that a vector can be read.
                let x: $x = unsafe { from.cast::<$x>().read_unaligned() };
                s.splat($load_x(x))
            }

            #[inline(always)]
            fn add(s: S, sum: S::F32, w: S::F32, x: S::F32) -> S::F32 {
                s.mul_add(x, w, sum)
            }

            #[inline(always)]
            unsafe fn load(s: S, from: *const f32) -> S::F32 {
                // SAFETY: the caller promises that a vector can be read.
                unsafe { s.load(from) }
            }

            #[inline(always)]
            unsafe fn store(s: S, to: *mut f32, sum: S::F32) {
                // SAFETY: the caller promises that a vector can be written.
                unsafe { s.store(to, sum) }
            }
        }
    };
}

single! {
    /// f32 · f32.
    F32: f32, f32, f32::from, load
}
single! {
    /// f32 · f16, widened.
    WideF16: f32, f16, f32::from, load_f16
}
single! {
    /// f16 · f16, both widened.
    F16: f16, f16, f16::to_f32_const, load_f16
}

/// f32 · bf16, widened: the first of each pair, then the second.
pub(in crate::cpu) struct WideBF16;

impl<S: Simd> Product<S> for WideBF16 {
    const IS_BUILT: bool = bf16::WEIGHTS;
    const GROUP: usize = 2;
    const PARTS: usize = 2;
    const X_BYTES: usize = 4;
    const W_BYTES: usize = 2;
    type Sum = S::F32;
    type W = S::F32;
    type X = S::F32;

    #[inline(always)]
    fn zero(s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn weights(s: S, from: *const u8, part: usize) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load_bf16_of_pairs(from, part) }
    }

    #[inline(always)]
    unsafe fn input(s: S, from: *const u8, part: usize) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        s.splat(unsafe { from.cast::<[f32; 2]>().read_unaligned() }[part])
    }

    #[inline(always)]
    fn add(s: S, sum: S::F32, w: S::F32, x: S::F32) -> S::F32 {
        s.mul_add(x, w, sum)
    }

    #[inline(always)]
    unsafe fn load(s: S, from: *const f32) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load(from) }
    }

    #[inline(always)]
    unsafe fn store(s: S, to: *mut f32, sum: S::F32) {
        // SAFETY: the caller promises that a vector can be written.
        unsafe { s.store(to, sum) }
    }
}

/// bf16 · bf16, by the instruction set's products of pairs.
#[cfg_attr(
    not(all(feature = "simd", target_arch = "x86_64")),
    allow(dead_code, reason = "only AVX-512 has them so far")
)]
pub(in crate::cpu) struct BF16;

impl<S: Simd> Product<S> for BF16 {
    const IS_BUILT: bool = bf16::ACTIVATIONS;
    const GROUP: usize = 2;
    const X_BYTES: usize = 2;
    const W_BYTES: usize = 2;
    type Sum = S::F32;
    type W = S::Bytes;
    type X = S::Bytes;

    #[inline(always)]
    fn zero(s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn weights(s: S, from: *const u8, _: usize) -> S::Bytes {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.bytes(from) }
    }

    #[inline(always)]
    unsafe fn input(s: S, from: *const u8, _: usize) -> S::Bytes {
        // SAFETY: the caller promises that a vector can be read.
        s.splat_bytes(unsafe { from.cast::<u32>().read_unaligned() })
    }

    #[inline(always)]
    fn add(s: S, sum: S::F32, w: S::Bytes, x: S::Bytes) -> S::F32 {
        s.dot_bf16(sum, w, x)
    }

    #[inline(always)]
    unsafe fn load(s: S, from: *const f32) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load(from) }
    }

    #[inline(always)]
    unsafe fn store(s: S, to: *mut f32, sum: S::F32) {
        // SAFETY: the caller promises that a vector can be written.
        unsafe { s.store(to, sum) }
    }
}

/// bf16 · bf16, both widened: the first of each pair, then the second.
pub(in crate::cpu) struct WidenedBF16;

impl<S: Simd> Product<S> for WidenedBF16 {
    const IS_BUILT: bool = bf16::ACTIVATIONS;
    const GROUP: usize = 2;
    const PARTS: usize = 2;
    const X_BYTES: usize = 2;
    const W_BYTES: usize = 2;
    type Sum = S::F32;
    type W = S::F32;
    type X = S::F32;

    #[inline(always)]
    fn zero(s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn weights(s: S, from: *const u8, part: usize) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load_bf16_of_pairs(from, part) }
    }

    #[inline(always)]
    unsafe fn input(s: S, from: *const u8, part: usize) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        let pair = unsafe { from.cast::<u32>().read_unaligned() };
        // The first is the lower half. Shifted by hand: `half` looks for NaN in each, to make it a quiet one.
        s.splat(f32::from_bits(if part == 0 { pair << 16 } else { pair & 0xffff_0000 }))
    }

    #[inline(always)]
    fn add(s: S, sum: S::F32, w: S::F32, x: S::F32) -> S::F32 {
        s.mul_add(x, w, sum)
    }

    #[inline(always)]
    unsafe fn load(s: S, from: *const f32) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load(from) }
    }

    #[inline(always)]
    unsafe fn store(s: S, to: *mut f32, sum: S::F32) {
        // SAFETY: the caller promises that a vector can be written.
        unsafe { s.store(to, sum) }
    }
}

/// int8 · int8 in groups of four, summed in i32. Where an instruction set makes these in two parts, one of them.
pub(in crate::cpu) struct I8<const PART: usize = 0>;

impl<S: Simd, const PART: usize> Product<S> for I8<PART> {
    const IS_BUILT: bool = built::INT8;
    const GROUP: usize = 4;
    const X_BYTES: usize = 1;
    const W_BYTES: usize = 1;
    type Sum = S::I32;
    type W = S::Bytes;
    type X = S::Bytes;

    #[inline(always)]
    fn zero(s: S) -> S::I32 {
        s.zero_i32()
    }

    #[inline(always)]
    unsafe fn weights(s: S, from: *const u8, _: usize) -> S::Bytes {
        // SAFETY: the caller promises that a vector can be read.
        s.part_i8(unsafe { s.bytes(from) }, PART)
    }

    #[inline(always)]
    unsafe fn input(s: S, from: *const u8, _: usize) -> S::Bytes {
        // SAFETY: the caller promises that a group can be read.
        s.splat_bytes(unsafe { from.cast::<u32>().read_unaligned() })
    }

    #[inline(always)]
    fn add(s: S, sum: S::I32, w: S::Bytes, x: S::Bytes) -> S::I32 {
        s.add_part_i8(sum, w, x)
    }

    #[inline(always)]
    unsafe fn load(s: S, from: *const f32) -> S::I32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load_sums(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(s: S, to: *mut f32, sum: S::I32) {
        // SAFETY: the caller promises that a vector can be written.
        unsafe { s.store_i32(to.cast(), sum) }
    }
}
