//! NEON. Longer than most files: each operation that kernels ask of an instruction set, once for four levels.

use core::arch::aarch64::*;
use core::arch::asm;

use half::{bf16, f16};

use super::block::{Block, Lines};
use super::detect::Detect;
use super::product::{self, Product, blocks};
use super::{Simd, i8mm, lanes};

/// Rows of a block whose sums are a whole panel wide.
const FEW: usize = 6;

/// NEON, which every aarch64 has, and what multiplies int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon<D = Plain>(D);

/// int8 products by widening multiplications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain(());

/// int8 products of the dot product extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dot(());

/// int8 products of the matrix extension, and of the dot product extension where matrices do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct I8mm(());

/// As [`I8mm`], and bf16 products of the bfloat16 extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bf16(());

impl Detect for Neon<Plain> {
    /// The token, where the target has NEON.
    fn detect() -> Option<Self> {
        cfg!(target_feature = "neon").then_some(Neon(Plain(())))
    }
}

impl Detect for Neon<Dot> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Neon::<Plain>::detect().is_some() && has_dotprod()).then_some(Neon(Dot(())))
    }
}

impl Detect for Neon<I8mm> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Neon::<Dot>::detect().is_some() && has_i8mm()).then_some(Neon(I8mm(())))
    }
}

impl Detect for Neon<Bf16> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Neon::<I8mm>::detect().is_some() && has_bf16()).then_some(Neon(Bf16(())))
    }
}

impl<D> Neon<D> {
    /// The same without what it adds to NEON.
    pub(crate) fn base(self) -> Neon {
        Neon(Plain(()))
    }
}

/// A function that says whether the machine has an extension: four bits of an identification register, which Linux lets
/// a process read. Elsewhere it has what the build promises.
macro_rules! detection {
    ($name:ident, $feature:literal, $register:literal, $shift:literal) => {
        #[cfg(all(not(target_feature = $feature), any(target_os = "linux", target_os = "android")))]
        fn $name() -> bool {
            let features: u64;
            // SAFETY: reads a register that Linux answers for.
            unsafe {
                asm!(
                    concat!("mrs {}, ", $register),
                    out(reg) features,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            features >> $shift & 0xf != 0
        }

        #[cfg(any(target_feature = $feature, not(any(target_os = "linux", target_os = "android"))))]
        fn $name() -> bool {
            cfg!(target_feature = $feature)
        }
    };
}

detection!(has_dotprod, "dotprod", "ID_AA64ISAR0_EL1", 44);
detection!(has_i8mm, "i8mm", "ID_AA64ISAR1_EL1", 52);
detection!(has_bf16, "bf16", "ID_AA64ISAR1_EL1", 44);

/// Products of int8, and of bf16 pairs.
pub(in crate::cpu) trait Dots: Copy + Send + Sync + 'static {
    /// [`Simd::I8_GROUP`].
    const GROUP: usize = 4;
    /// [`Simd::DENSE_ROWS`].
    const ROWS: usize = FEW;
    /// [`Simd::BF16`].
    const BF16: bool = false;
    /// int8 products, four to a column.
    fn dot(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
    /// [`Simd::block_i8`].
    ///
    /// # Safety
    /// The block's promises.
    #[inline(always)]
    unsafe fn block(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { by_few::<Self, product::I8, 3>(Neon(self), b) }
    }
}

impl Dots for Plain {
    #[inline(always)]
    fn dot(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            // Sums of pairs in 32 bits: those of two products would not fit 16.
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
            let high = vpaddlq_s16(vmull_high_s8(w, x));
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }
}

impl Dots for Dot {
    const ROWS: usize = lanes::ROWS;

    #[inline(always)]
    fn dot(self, mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the intrinsic is not stable yet; only detection makes a token, so the machine has the instructions.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
                sums = inout(vreg) sums,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    unsafe fn block(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { of_rows::<product::I8, Self, lanes::Int8>(Neon(self), b) }
    }
}

impl Dots for I8mm {
    const GROUP: usize = 8;

    #[inline(always)]
    fn dot(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        Dot(()).dot(sums, w, x)
    }

    #[inline(always)]
    unsafe fn block(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { i8mm::block(b) }
    }
}

impl Dots for Bf16 {
    const GROUP: usize = 8;
    const ROWS: usize = lanes::ROWS;
    const BF16: bool = true;

    #[inline(always)]
    fn dot(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        Dot(()).dot(sums, w, x)
    }

    #[inline(always)]
    unsafe fn block(self, b: &mut Block<'_>) {
        for first in (0..b.rows).step_by(FEW) {
            // SAFETY: the caller promises that operands and sums are as large as the block says.
            unsafe { i8mm::block(&mut part(b, first, FEW)) };
        }
    }
}

/// Four f32 rounded to bfloat16, ties to even. The intrinsic is not stable yet.
///
/// # Safety
/// The machine has the instruction.
#[inline(always)]
unsafe fn rounded(x: float32x4_t) -> uint16x8_t {
    let halves: uint16x8_t;
    // SAFETY: promised.
    unsafe {
        asm!(
            ".arch_extension bf16",
            "bfcvtn {halves:v}.4h, {x:v}.4s",
            halves = out(vreg) halves,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    halves
}

/// `block_*` by functions.
macro_rules! blocks_by {
    ($($name:ident: $block:expr,)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self, b: &mut Block<'_>) {
                // SAFETY: the caller promises that operands and sums are as large as the block says.
                unsafe { ($block)(self, b) }
            }
        )*
    };
}

// SAFETY: the token exists only where the instructions were detected.
unsafe impl<D: Dots> Simd for Neon<D> {
    type F32 = float32x4_t;
    type I32 = int32x4_t;
    type Bytes = int8x16_t;
    type Panel = Lines<16>;
    type Sums = [Self::Panel; 32];
    type Slice = Self::Sums;
    const LANES: usize = 4;
    const BYTES: usize = 16;
    const ROWS: usize = lanes::ROWS;
    const DENSE_ROWS: usize = D::ROWS;
    const PANEL: usize = 16;
    const UNSIGNED: bool = false;
    const I8_GROUP: usize = D::GROUP;
    const BF16: bool = D::BF16;
    const BF16_VECTORS: bool = D::BF16;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> float32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let halves = vld1_u16(from.cast());
            let wide: float32x4_t;
            // The intrinsic is not stable yet.
            asm!(
                "fcvtl {wide:v}.4s, {halves:v}.4h",
                wide = out(vreg) wide,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
            wide
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> float32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: float32x4_t) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { vst1q_f32(to, x) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: of a NaN and a number the second operand, as on x86; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn max_magnitude(self, a: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let (a, x) = (vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(vabsq_f32(x)));
            vreinterpretq_f32_s32(vmaxq_s32(a, x))
        }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: of a NaN and a number the second operand, as on x86; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vsqrtq_f32(a) }
    }

    #[inline(always)]
    fn pow2(self, n: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn rope_pairs(self, x: float32x4_t, waves: float32x4_t) -> float32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let (cos, sin) = (vtrn1q_f32(waves, waves), vtrn2q_f32(waves, waves));
            // −sin, sin, −sin, sin
            let sin = vtrn1q_f32(vnegq_f32(sin), sin);
            vfmaq_f32(vmulq_f32(vrev64q_f32(x), sin), x, cos)
        }
    }

    #[inline(always)]
    fn sum(self, x: float32x4_t) -> f32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vaddvq_f32(x) }
    }

    #[inline(always)]
    fn zero_i32(self) -> int32x4_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn dot_i8(self, sums: int32x4_t, a: *const i8, b: *const i8) -> int32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { self.0.dot(sums, vld1q_s8(a), vld1q_s8(b)) }
    }

    #[inline(always)]
    fn sum_i32(self, x: int32x4_t) -> i32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vaddvq_s32(x) }
    }

    #[inline(always)]
    unsafe fn bytes(self, from: *const u8) -> int8x16_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vld1q_s8(from.cast()) }
    }

    #[inline(always)]
    fn splat_bytes(self, x: u32) -> int8x16_t {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { vreinterpretq_s8_u32(vdupq_n_u32(x)) }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8) -> [int8x16_t; 4] {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let (words, mask) = (vld1q_u8(from), vdupq_n_u8(3));
            [
                vreinterpretq_s8_u8(vandq_u8(words, mask)),
                vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(words), mask)),
                vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(words), mask)),
                vreinterpretq_s8_u8(vshrq_n_u8::<6>(words)),
            ]
        }
    }

    #[inline(always)]
    fn dot_bytes(self, sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        self.0.dot(sums, w, x)
    }

    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: int32x4_t) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { vst1q_s32(to, x) }
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> int32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vld1q_s32(from) }
    }

    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32, excess: *const i32) -> float32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { vcvtq_f32_s32(vsubq_s32(vld1q_s32(from), vld1q_s32(excess))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_of_pairs(self, from: *const u8, which: usize) -> float32x4_t {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            if which == 0 {
                return vreinterpretq_f32_u32(vshlq_n_u32::<16>(vld1q_u32(from.cast())));
            }
            // Emits nothing. What was read before is read again: kept in registers, it would push the sums into memory.
            asm!("", options(nostack, preserves_flags));
            vreinterpretq_f32_u32(vandq_u32(vld1q_u32(from.cast()), vdupq_n_u32(0xffff_0000)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16, x: float32x4_t) {
        // SAFETY: the caller promises that the elements can be written.
        unsafe {
            if D::BF16 {
                return vst1_u16(to.cast(), vget_low_u16(rounded(x)));
            }
            for (i, x) in self.lanes(x).iter().enumerate().take(Self::LANES) {
                *to.add(i) = bf16::from_f32_const(*x);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, first: float32x4_t, second: float32x4_t) {
        if D::BF16 {
            // SAFETY: the caller promises that the elements can be written; the machine has the instructions.
            unsafe { vst1q_u16(to.cast(), vzip1q_u16(rounded(first), rounded(second))) }
        }
    }

    #[inline(always)]
    fn dot_bf16(self, mut sums: float32x4_t, w: int8x16_t, x: int8x16_t) -> float32x4_t {
        if D::BF16 {
            // SAFETY: only detection makes a token, so the machine has the instructions. The intrinsic is not stable
            // yet.
            unsafe {
                asm!(
                    ".arch_extension bf16",
                    "bfdot {sums:v}.4s, {w:v}.8h, {x:v}.8h",
                    sums = inout(vreg) sums,
                    w = in(vreg) w,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
        sums
    }

    blocks_by! {
        block_f32: by_width::<product::F32, D, lanes::F32>,
        block_wide_f16: by_width::<product::WideF16, D, lanes::WideF16>,
        block_wide_bf16: of_rows::<product::WideBF16, D, lanes::WideBF16>,
        block_f16: by_few::<D, product::F16, FEW>,
        block_bf16: bf16_block::<D>,
        block_i8: i8_block::<D>,
    }
    blocks!(columns 6, 4, 2, columns: F32, columns_bf16: BF16);
}

/// [`Simd::block_i8`].
///
/// # Safety
/// The block's promises.
#[inline(always)]
unsafe fn i8_block<D: Dots>(s: Neon<D>, b: &mut Block<'_>) {
    // SAFETY: promised.
    unsafe { s.0.block(b) }
}

/// [`Simd::block_bf16`].
///
/// # Safety
/// The block's promises.
#[inline(always)]
unsafe fn bf16_block<D: Dots>(s: Neon<D>, b: &mut Block<'_>) {
    // SAFETY: promised.
    unsafe {
        match D::BF16 {
            true => of_rows::<product::BF16, D, lanes::BF16>(s, b),
            false => by_few::<D, product::WidenedBF16, FEW>(s, b),
        }
    }
}

/// Where `P` is built, its products by `L`.
///
/// # Safety
/// The block's promises, and the machine has the instructions.
#[inline(always)]
unsafe fn of_rows<P: Product<Neon<D>>, D: Dots, L: lanes::Lanes>(_: Neon<D>, b: &mut Block<'_>) {
    // SAFETY: promised.
    unsafe {
        match b.rows > FEW {
            _ if !P::IS_BUILT => {}
            true => lanes::block::<L, { lanes::ROWS }>(b),
            false => lanes::block::<L, FEW>(b),
        }
    }
}

/// The same, but a few rows by `P`: where that is faster than sums for half a panel.
///
/// # Safety
/// The block's promises, and the machine has the instructions.
#[inline(always)]
unsafe fn by_width<P: Product<Neon<D>>, D: Dots, L: lanes::Lanes>(s: Neon<D>, b: &mut Block<'_>) {
    // SAFETY: promised.
    unsafe {
        match b.rows > FEW {
            true => of_rows::<P, D, L>(s, b),
            false => product::block::<Neon<D>, P, FEW, 4>(s, b),
        }
    }
}

/// Products by `P`, `R` rows at a time.
///
/// # Safety
/// The block's promises, and the most rows that it takes are a multiple of `R`.
#[inline(always)]
unsafe fn by_few<D: Dots, P: Product<Neon<D>>, const R: usize>(s: Neon<D>, b: &mut Block<'_>) {
    for first in (0..b.rows).step_by(R) {
        // SAFETY: rows of the block, which has sums for them and as many more as this takes.
        unsafe { product::block::<Neon<D>, P, R, 4>(s, &mut part(b, first, R)) };
    }
}

/// At most `rows` rows of a block.
///
/// # Safety
/// The block has row `first`.
#[inline(always)]
unsafe fn part<'s>(b: &Block<'s>, first: usize, rows: usize) -> Block<'s> {
    // SAFETY: promised.
    let (x, sums) = unsafe { (b.x.add(first * b.stride), b.sums.add(first * Neon::<Plain>::PANEL)) };
    Block { x, sums, rows: rows.min(b.rows - first), ..*b }
}
