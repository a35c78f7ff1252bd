//! Products for NEON: twelve rows, or six, times half a panel. An element of a row multiplies a vector of weights where
//! it lies in its own vector, two steps of `k` after one load. Weights that are widened first are widened for twelve
//! rows.

use core::arch::aarch64::*;
use core::arch::asm;

use super::block::Block;

/// Columns of a panel.
const PANEL: usize = 16;
/// Vectors of half a panel.
const VECTORS: usize = 2;
/// Rows of a block at most: times two vectors they keep 24 registers of sums.
pub(super) const ROWS: usize = 12;
/// Bytes of a group of activations.
const BYTES: usize = 4;

/// The sums of a block.
type Sums<L, const R: usize> = [[<L as Lanes>::Vector; VECTORS]; R];

/// What multiplies. A group is four bytes of a row, and what they multiply in each column.
pub(super) trait Lanes {
    /// A vector of sums, or of weights.
    type Vector: Copy;
    /// Elements of a row in a group.
    const ELEMENTS: usize;
    /// Bytes of the groups of a step in a panel.
    const STEP: usize;
    /// Groups of a step: one where the weights of two would take registers from the sums.
    const GROUPS: usize;
    /// The weights of a group, for a half of the panel where a step starts at `w`.
    ///
    /// # Safety
    /// The group is readable.
    unsafe fn weights<const GROUP: usize>(w: *const u8, half: usize) -> [Self::Vector; VECTORS];
    /// `sum + w · x`, with group `LANE` of `x`.
    fn add<const LANE: i32>(sum: Self::Vector, w: Self::Vector, x: float32x2_t) -> Self::Vector;
}

/// Sums of products of up to `R` rows and a panel.
///
/// # Safety
/// The block's promises, and the machine has the instructions.
#[inline(always)]
pub(super) unsafe fn block<L: Lanes, const R: usize>(b: &mut Block<'_>) {
    for half in 0..PANEL / (4 * VECTORS) {
        // SAFETY: promised.
        unsafe { half_block::<L, R>(b, half) };
    }
}

/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn half_block<L: Lanes, const R: usize>(b: &mut Block<'_>, half: usize) {
    // SAFETY: half a row of a panel's width; numbers, of which all bits zero are 0.
    let (out, mut sums) = unsafe { (b.sums.add(half * 4 * VECTORS), core::mem::zeroed::<Sums<L, R>>()) };
    let mut x = [b.x; R];
    for (i, (x, sums)) in x.iter_mut().zip(&mut sums).enumerate() {
        // Rows past the last repeat it.
        let row = i.min(b.rows - 1);
        // SAFETY: promised.
        unsafe {
            *x = x.add(row * b.stride);
            // Emits nothing. Known to be evenly spaced, they would share registers that must then step from row to row.
            asm!("/* {0} */", inout(reg) * x, options(pure, nomem, nostack, preserves_flags));
            if b.add {
                *sums = out.add(row * PANEL).cast::<[L::Vector; VECTORS]>().read_unaligned();
            }
        }
    }
    let (steps, rest) = (b.k / (L::GROUPS * L::ELEMENTS), b.k % (L::GROUPS * L::ELEMENTS));
    let (mut w, bytes) = (b.w, L::GROUPS * BYTES);
    for k in 0..steps {
        // SAFETY: the groups of a step in each row and in the panel, which then continues at least to its end.
        unsafe {
            match L::GROUPS {
                1 => one_group::<L, R>(&mut sums, &x, k * bytes, (w, half)),
                _ => two_groups::<L, R>(&mut sums, &x, k * bytes, (w, half)),
            }
            w = w.add(L::STEP);
        }
    }
    if rest > 0 {
        let mut tails = [[0u8; 2 * BYTES]; R];
        for (tail, x) in tails.iter_mut().zip(&mut x) {
            // SAFETY: so many bytes are left of the row, fewer than the tail has.
            unsafe {
                let from = x.add(steps * bytes);
                core::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), rest * BYTES / L::ELEMENTS);
            }
            *x = tail.as_ptr();
        }
        // SAFETY: panels are padded with zeros to whole groups.
        unsafe {
            match rest > L::ELEMENTS {
                false => one_group::<L, R>(&mut sums, &x, 0, (w, half)),
                true => two_groups::<L, R>(&mut sums, &x, 0, (w, half)),
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate().take(b.rows) {
        // SAFETY: promised.
        unsafe { out.add(i * PANEL).cast::<[L::Vector; VECTORS]>().write_unaligned(sums) };
    }
}

/// Adds the products of two groups, at byte `at` of each row.
///
/// # Safety
/// They are readable in every row and in the panel.
#[inline(always)]
unsafe fn two_groups<L: Lanes, const R: usize>(
    sums: &mut Sums<L, R>,
    x: &[*const u8; R],
    at: usize,
    (w, half): (*const u8, usize),
) {
    // SAFETY: promised.
    let (first, second) = unsafe { (L::weights::<0>(w, half), L::weights::<1>(w, half)) };
    for (sums, x) in sums.iter_mut().zip(x) {
        // SAFETY: promised.
        let x = unsafe { vld1_f32(x.add(at).cast()) };
        for (sum, w) in sums.iter_mut().zip(first) {
            *sum = L::add::<0>(*sum, w, x);
        }
        for (sum, w) in sums.iter_mut().zip(second) {
            *sum = L::add::<1>(*sum, w, x);
        }
    }
}

/// Adds the products of one group, at byte `at` of each row.
///
/// # Safety
/// It is readable in every row and in the panel.
#[inline(always)]
unsafe fn one_group<L: Lanes, const R: usize>(
    sums: &mut Sums<L, R>,
    x: &[*const u8; R],
    at: usize,
    (w, half): (*const u8, usize),
) {
    // SAFETY: promised.
    let weights = unsafe { L::weights::<0>(w, half) };
    for (sums, x) in sums.iter_mut().zip(x) {
        // SAFETY: promised.
        let x = unsafe { vdup_n_f32(x.add(at).cast::<f32>().read_unaligned()) };
        for (sum, w) in sums.iter_mut().zip(weights) {
            *sum = L::add::<0>(*sum, w, x);
        }
    }
}

/// f32 · f32.
pub(super) struct F32;
/// f32 · f16, widened.
pub(super) struct WideF16;
/// f32 · bf16, widened. Pairs lie side by side: the first of each are a group, and the second.
pub(super) struct WideBF16;
/// bf16 · bf16 by the bfloat16 extension: a group is a pair.
pub(super) struct BF16;
/// int8 · int8 by the dot product extension: a group is four elements.
pub(super) struct Int8;

/// Lanes whose weights are read by an expression, and added by an instruction of a target feature or by an intrinsic.
macro_rules! lanes {
    (
        $name:ident: $vector:ty, $elements:literal to a group, $groups:literal groups of $bytes:literal bytes,
        |$w:ident, $group:ident, $half:ident| $weights:expr, $($add:tt)*
    ) => {
        impl Lanes for $name {
            type Vector = $vector;
            const ELEMENTS: usize = $elements;
            const GROUPS: usize = $groups;
            const STEP: usize = $groups * $bytes;

            #[inline(always)]
            unsafe fn weights<const GROUP: usize>($w: *const u8, $half: usize) -> [$vector; VECTORS] {
                let $group = GROUP;
                // SAFETY: readable, as the caller promises.
                unsafe { $weights }
            }

            lanes! { add $vector, $($add)* }
        }
    };
    (add $vector:ty, by $instruction:literal) => {
        #[inline(always)]
        fn add<const LANE: i32>(mut sum: $vector, w: $vector, x: float32x2_t) -> $vector {
            // SAFETY: only who has a token for the extension calls this. The intrinsic is not stable yet.
            unsafe {
                asm!(
                    $instruction,
                    sum = inout(vreg) sum,
                    w = in(vreg) w,
                    x = in(vreg) x,
                    lane = const LANE,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
    };
    (add $vector:ty,) => {
        #[inline(always)]
        fn add<const LANE: i32>(sum: $vector, w: $vector, x: float32x2_t) -> $vector {
            // SAFETY: NEON, which every aarch64 has.
            unsafe { vfmaq_lane_f32::<LANE>(sum, w, x) }
        }
    };
}

lanes! { F32: float32x4_t, 1 to a group, 2 groups of 64 bytes, |w, group, half| vectors(w, group, half), }
lanes! { WideF16: float32x4_t, 1 to a group, 1 groups of 32 bytes, |w, _group, half| widened(w.add(half * 16)), }
lanes! {
    WideBF16: float32x4_t, 1 to a group, 2 groups of 32 bytes,
    |w, group, half| of_pairs(vectors(w, 0, half), group),
}
lanes! {
    BF16: float32x4_t, 2 to a group, 2 groups of 64 bytes, |w, group, half| vectors(w, group, half),
    by ".arch_extension bf16\nbfdot {sum:v}.4s, {w:v}.8h, {x:v}.2h[{lane}]"
}
lanes! {
    Int8: int32x4_t, 4 to a group, 2 groups of 64 bytes, |w, group, half| vectors(w, group, half),
    by ".arch_extension dotprod\nsdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]"
}

/// The vectors of half a panel of four bytes to a column.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn vectors<V>(w: *const u8, group: usize, half: usize) -> [V; VECTORS] {
    // SAFETY: promised.
    unsafe { w.add(group * 4 * PANEL + half * 16 * VECTORS).cast::<[V; VECTORS]>().read_unaligned() }
}

/// Eight f16.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn widened(w: *const u8) -> [float32x4_t; VECTORS] {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: promised. The intrinsics are not stable yet.
    unsafe {
        let halves = vld1q_u8(w);
        asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            low = out(vreg) low,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
        asm!(
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            high = out(vreg) high,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// The first or the second of pairs of bf16.
#[inline(always)]
fn of_pairs([a, b]: [uint32x4_t; VECTORS], which: usize) -> [float32x4_t; VECTORS] {
    // SAFETY: NEON, which every aarch64 has.
    unsafe {
        let [a, b] = match which {
            0 => [vshlq_n_u32::<16>(a), vshlq_n_u32::<16>(b)],
            _ => [vandq_u32(a, vdupq_n_u32(0xffff_0000)), vandq_u32(b, vdupq_n_u32(0xffff_0000))],
        };
        [vreinterpretq_f32_u32(a), vreinterpretq_f32_u32(b)]
    }
}
