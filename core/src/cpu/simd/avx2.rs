use core::arch::asm;
use core::arch::x86_64::*;

use half::{bf16, f16};

use super::block::{Block, Lines};
use super::detect::Detect;
use super::product::blocks;
use super::rewritten::rewritten;
use super::{Simd, cpuid};

cpufeatures::new!(has_avx2, "avx2", "fma");

/// AVX2 with FMA and F16C, and what multiplies int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2<D = Plain>(D);

/// int8 products of AVX2 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain(());

/// int8 products of AVX-VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AvxVnni(());

impl Detect for Avx2<Plain> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (has_avx2::get() && cpuid::has_f16c()).then_some(Avx2(Plain(())))
    }
}

impl Detect for Avx2<AvxVnni> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Avx2::<Plain>::detect().is_some() && cpuid::has_avx_vnni()).then_some(Avx2(AvxVnni(())))
    }
}

impl<D> Avx2<D> {
    /// The same without what it adds to AVX2.
    pub(crate) fn base(self) -> Avx2 {
        Avx2(Plain(()))
    }
}

/// Products of int8 groups.
pub(in crate::cpu) trait Dots: Copy + Send + Sync + 'static {
    const UNSIGNED: bool;
    const I8_PARTS: usize;
    /// [`Simd::rewrite_i8`] of a vector.
    ///
    /// # Safety
    /// `to` is writable for a vector, in each part.
    unsafe fn rewrite(self, x: __m256i, to: *mut u8, part: usize);
    fn part(self, w: __m256i, part: usize) -> __m256i;
    fn add_part(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i;
    fn dot(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i;
}

/// Bytes are widened to pairs of i16: of a group's four, the second and fourth come first.
impl Dots for Plain {
    const UNSIGNED: bool = false;
    const I8_PARTS: usize = 2;

    #[inline(always)]
    unsafe fn rewrite(self, x: __m256i, to: *mut u8, part: usize) {
        // SAFETY: the caller promises that both vectors can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe {
            _mm256_storeu_si256(to.cast(), self.part(x, 0));
            _mm256_storeu_si256(to.add(part).cast(), self.part(x, 1));
        }
    }

    #[inline(always)]
    fn part(self, w: __m256i, part: usize) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            match part {
                0 => _mm256_srai_epi16::<8>(w),
                _ => _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w)),
            }
        }
    }

    #[inline(always)]
    fn add_part(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(w, x)) }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions. Two products of at most 127 · 128
        // fit 16 bits.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1))) }
    }
}

impl Dots for AvxVnni {
    const UNSIGNED: bool = true;
    const I8_PARTS: usize = 1;

    #[inline(always)]
    unsafe fn rewrite(self, x: __m256i, to: *mut u8, _part: usize) {
        // SAFETY: the caller promises that the vector can be written; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_xor_si256(x, _mm256_set1_epi8(i8::MIN))) }
    }

    #[inline(always)]
    fn part(self, w: __m256i, _part: usize) -> __m256i {
        w
    }

    #[inline(always)]
    fn add_part(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        self.dot(sums, w, x)
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
}

// SAFETY: the token exists only where AVX2, FMA and F16C were detected.
unsafe impl<D: Dots> Simd for Avx2<D> {
    type F32 = __m256;
    type I32 = __m256i;
    type Bytes = __m256i;
    type Panel = Lines<16>;
    type Sums = [Self::Panel; 32];
    type Slice = Self::Sums;
    const LANES: usize = 8;
    const BYTES: usize = 16;
    const ROWS: usize = 6;
    const PANEL: usize = 16;
    const UNSIGNED: bool = D::UNSIGNED;
    const I8_PARTS: usize = D::I8_PARTS;
    const BF16: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m256 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m256 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m256) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn max_magnitude(self, a: __m256, x: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
            _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), magnitude))
        }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn rope_pairs(self, x: __m256, waves: __m256) -> __m256 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let (cos, sin) = (_mm256_moveldup_ps(waves), _mm256_movehdup_ps(waves));
            let swapped = _mm256_permute_ps::<0b1011_0001>(x);
            _mm256_fmaddsub_ps(x, cos, _mm256_mul_ps(swapped, sin))
        }
    }

    #[inline(always)]
    fn sum(self, x: __m256) -> f32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn zero_i32(self) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn dot_i8(self, sums: __m256i, a: *const i8, b: *const i8) -> __m256i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let a = _mm256_cvtepi8_epi16(_mm_loadu_si128(a.cast()));
            let b = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
            _mm256_add_epi32(sums, _mm256_madd_epi16(a, b))
        }
    }

    #[inline(always)]
    fn sum_i32(self, x: __m256i) -> i32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn prefetch_near(self, line: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn bytes(self, from: *const u8) -> __m256i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    fn splat_bytes(self, x: u32) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm256_set1_epi32(x.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn rewrite_i8(self, from: *const u8, len: usize, to: *mut u8, part: usize) {
        const VECTOR: usize = size_of::<__m256i>();
        let whole = len / VECTOR * VECTOR;
        // SAFETY: the caller promises that the elements can be read, and a stretch written in each part.
        unsafe {
            for at in (0..whole).step_by(VECTOR) {
                self.0.rewrite(_mm256_loadu_si256(from.add(at).cast()), to.add(at), part);
            }
            if whole < len {
                let mut last = [0u8; VECTOR];
                core::ptr::copy_nonoverlapping(from.add(whole), last.as_mut_ptr(), len - whole);
                self.0.rewrite(_mm256_loadu_si256(last.as_ptr().cast()), to.add(whole), part);
            }
        }
    }

    #[inline(always)]
    fn part_i8(self, w: __m256i, part: usize) -> __m256i {
        self.0.part(w, part)
    }

    #[inline(always)]
    fn add_part_i8(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        self.0.add_part(sums, w, x)
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8) -> [__m256i; 4] {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let (words, mask) = (_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(3));
            [
                _mm256_and_si256(words, mask),
                _mm256_and_si256(_mm256_srli_epi16::<2>(words), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(words), mask),
                _mm256_and_si256(_mm256_srli_epi16::<6>(words), mask),
            ]
        }
    }

    #[inline(always)]
    fn dot_bytes(self, sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        self.0.dot(sums, w, x)
    }

    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: __m256i) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm256_storeu_si256(to.cast(), x) }
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m256i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32, excess: *const i32) -> __m256 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let (sums, excess) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(excess.cast()));
            _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, excess))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16, x: __m256) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // Rounding must not turn a NaN into an infinity.
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let halves = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(halves, halves));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[expect(clippy::pointers_in_nomem_asm_block, reason = "the block reads nothing")]
    #[inline(always)]
    unsafe fn load_bf16_of_pairs(self, from: *const u8, which: usize) -> __m256 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            if which == 0 {
                return _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from.cast())));
            }
            let mut from = from;
            // Emits nothing. Known to be the same pairs, both vectors' would stay in registers, and the sums in memory.
            asm!("/* {0} */", inout(reg) from, options(pure, nomem, nostack, preserves_flags));
            let pairs = _mm256_loadu_si256(from.cast());
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())))
        }
    }

    blocks!(6, 2, 1);

    #[inline(always)]
    unsafe fn block_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { rewritten::<Self, 6, 2>(self, b) }
    }

    #[inline(always)]
    unsafe fn row_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { rewritten::<Self, 1, 2>(self, b) }
    }
}
