use core::arch::x86_64::*;

use half::{bf16, f16};

use super::block::{Block, Lines};
use super::detect::Detect;
use super::product::{BF16, WidenedBF16, block, blocks};
use super::rewritten::rewritten;
use super::{Simd, cpuid};

cpufeatures::new!(has_avx512, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma");

/// AVX-512 F, BW, DQ and VL, and what multiplies int8 and bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512<D = Plain>(pub(super) D);

/// Products of AVX-512 BW alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain(());

/// int8 products of AVX-512 VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnni(());

/// int8 products of AVX-512 VNNI, bf16 products of AVX-512 BF16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bf16(());

impl Detect for Avx512<Plain> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (has_avx512::get() && cpuid::has_f16c()).then_some(Avx512(Plain(())))
    }
}

impl Detect for Avx512<Vnni> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Avx512::<Plain>::detect().is_some() && cpuid::has_avx512_vnni()).then_some(Avx512(Vnni(())))
    }
}

impl Detect for Avx512<Bf16> {
    /// The token, where the machine has the instructions.
    fn detect() -> Option<Self> {
        (Avx512::<Vnni>::detect().is_some() && cpuid::has_avx512_bf16()).then_some(Avx512(Bf16(())))
    }
}

impl<D> Avx512<D> {
    /// The same without what it adds to AVX-512.
    pub(crate) fn base(self) -> Avx512 {
        Avx512(Plain(()))
    }
}

/// `2^r` for `|r| <= 1/2`, highest power first: through the Chebyshev nodes of degree 3.
const EXP2: [f32; 4] = [0.055838283, 0.24263948, 0.69313675, 0.99992454];

/// Element `i` of each half of a vector, side by side.
const PAIRS: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    order
};

/// The first `len` of 16 lanes.
#[inline(always)]
const fn first(len: usize) -> __mmask16 {
    !(u16::MAX << len)
}

/// Products of int8 groups and bf16 pairs.
pub(in crate::cpu) trait Dots: Copy + Send + Sync + 'static {
    const UNSIGNED: bool = true;
    const BF16: bool = false;
    const BF16_VECTORS: bool = false;
    const DENSE_ROWS: usize = 6;
    const I8_PARTS: usize = 1;
    /// [`Simd::rewrite_i8`] of a vector: products take one operand without a sign.
    ///
    /// # Safety
    /// `to` is writable for a vector, in each part.
    #[inline(always)]
    unsafe fn rewrite(self, x: __m512i, to: *mut u8, _part: usize) {
        // SAFETY: the caller promises that the vector can be written; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_xor_si512(x, _mm512_set1_epi8(i8::MIN))) }
    }
    #[inline(always)]
    fn part(self, w: __m512i, _part: usize) -> __m512i {
        w
    }
    #[inline(always)]
    fn add_part(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.dot(sums, w, x)
    }
    fn dot(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i;
    #[inline(always)]
    fn dot_bf16(self, sums: __m512, _w: __m512i, _x: __m512i) -> __m512 {
        sums
    }
    /// Rounds to bfloat16, ties to even.
    #[inline(always)]
    fn bf16(self, x: __m512) -> __m256i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            // Rounding must not turn a NaN into an infinity.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, nan, quiet)))
        }
    }
    /// Pairs of bfloat16 from two vectors of f32. Where [`Dots::BF16_VECTORS`] says so.
    #[inline(always)]
    fn bf16_pairs(self, first: __m512, _second: __m512) -> __m512 {
        first
    }
    /// # Safety
    /// The block's promises.
    #[inline(always)]
    unsafe fn block_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { rewritten::<Avx512<Self>, 6, 4>(Avx512(self), b) }
    }
    /// # Safety
    /// The block's promises.
    #[inline(always)]
    unsafe fn row_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { rewritten::<Avx512<Self>, 1, 4>(Avx512(self), b) }
    }
    /// # Safety
    /// The block's promises.
    #[inline(always)]
    unsafe fn block_bf16(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe {
            if Self::BF16_VECTORS {
                block::<Avx512<Self>, BF16, 6, 4>(Avx512(self), b);
            } else {
                block::<Avx512<Self>, WidenedBF16, 6, 4>(Avx512(self), b);
            }
        }
    }
    #[inline(always)]
    fn begin_blocks(self, _rows: usize) {}
    #[inline(always)]
    fn end_blocks(self) {}
}

/// Bytes are widened to pairs of i16: of a group's four, the second and fourth come first.
impl Dots for Plain {
    const UNSIGNED: bool = false;
    const I8_PARTS: usize = 2;

    #[inline(always)]
    unsafe fn rewrite(self, x: __m512i, to: *mut u8, part: usize) {
        // SAFETY: the caller promises that both vectors can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe {
            _mm512_storeu_si512(to.cast(), self.part(x, 0));
            _mm512_storeu_si512(to.add(part).cast(), self.part(x, 1));
        }
    }

    #[inline(always)]
    fn part(self, w: __m512i, part: usize) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            match part {
                0 => _mm512_srai_epi16::<8>(w),
                _ => _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(w)),
            }
        }
    }

    #[inline(always)]
    fn add_part(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(w, x)) }
    }

    #[inline(always)]
    fn dot(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions. Two products of at most 127 · 128
        // fit 16 bits.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1))) }
    }
}

impl Dots for Vnni {
    #[inline(always)]
    fn dot(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }
}

impl Dots for Bf16 {
    const BF16: bool = true;
    const BF16_VECTORS: bool = true;
    #[inline(always)]
    fn dot(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }

    #[inline(always)]
    fn bf16(self, x: __m512) -> __m256i {
        // SAFETY: vectors of bfloat16 are plain bits. Subnormal numbers become 0 here; only detection makes a token, so
        // the machine has the instructions.
        unsafe { core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) }
    }

    #[inline(always)]
    fn bf16_pairs(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: vectors of bfloat16 are plain bits; only detection makes a token, so the machine has the
        // instructions.
        unsafe {
            let halves = core::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_loadu_si512(PAIRS.as_ptr().cast()), halves))
        }
    }

    #[inline(always)]
    fn dot_bf16(self, sums: __m512, w: __m512i, x: __m512i) -> __m512 {
        // SAFETY: both vectors are plain bits; only detection makes a token, so the machine has the instructions.
        unsafe {
            _mm512_dpbf16_ps(
                sums,
                core::mem::transmute::<__m512i, __m512bh>(w),
                core::mem::transmute::<__m512i, __m512bh>(x),
            )
        }
    }
}

// SAFETY: the token exists only where the instructions were detected.
unsafe impl<D: Dots> Simd for Avx512<D> {
    type F32 = __m512;
    type I32 = __m512i;
    type Bytes = __m512i;
    type Panel = Lines<64>;
    type Sums = [Self::Panel; 32];
    type Slice = Self::Sums;
    const LANES: usize = 16;
    const BYTES: usize = 32;
    const ROWS: usize = 6;
    const PANEL: usize = 64;
    const UNSIGNED: bool = D::UNSIGNED;
    const I8_PARTS: usize = D::I8_PARTS;
    const BF16: bool = D::BF16;
    const BF16_VECTORS: bool = D::BF16_VECTORS;
    const DENSE_ROWS: usize = D::DENSE_ROWS;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn max_magnitude(self, a: __m512, x: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
            _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), magnitude))
        }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), n) }
    }

    #[inline(always)]
    fn rope_pairs(self, x: __m512, waves: __m512) -> __m512 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let (cos, sin) = (_mm512_moveldup_ps(waves), _mm512_movehdup_ps(waves));
            let swapped = _mm512_permute_ps::<0b1011_0001>(x);
            _mm512_fmaddsub_ps(x, cos, _mm512_mul_ps(swapped, sin))
        }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn zero_i32(self) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn dot_i8(self, sums: __m512i, a: *const i8, b: *const i8) -> __m512i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let a = _mm512_cvtepi8_epi16(_mm256_loadu_si256(a.cast()));
            let b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.cast()));
            _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))
        }
    }

    #[inline(always)]
    fn sum_i32(self, x: __m512i) -> i32 {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_reduce_add_epi32(x) }
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn load_some(self, from: &[f32]) -> __m512 {
        // SAFETY: lanes past the slice's end are not read; only detection makes a token, so the machine has the
        // instructions.
        unsafe {
            if from.len() >= 16 {
                _mm512_loadu_ps(from.as_ptr())
            } else {
                _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr())
            }
        }
    }

    #[inline(always)]
    fn store_some(self, to: &mut [f32], x: __m512) {
        // SAFETY: lanes past the slice's end are not written; only detection makes a token, so the machine has the
        // instructions.
        unsafe {
            match to.len() {
                16.. => _mm512_storeu_ps(to.as_mut_ptr(), x),
                // The end of heads of 72 and 104 channels. What follows a masked store in memory, such as the next
                // head, could not be loaded until it has left the store queue.
                8 => _mm256_storeu_ps(to.as_mut_ptr(), _mm512_castps512_ps256(x)),
                len => _mm512_mask_storeu_ps(to.as_mut_ptr(), first(len), x),
            }
        }
    }

    #[inline(always)]
    fn prefetch_near(self, line: *const u8) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn bytes(self, from: *const u8) -> __m512i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn splat_bytes(self, x: u32) -> __m512i {
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe { _mm512_set1_epi32(x.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn rewrite_i8(self, from: *const u8, len: usize, to: *mut u8, part: usize) {
        const VECTOR: usize = size_of::<__m512i>();
        for at in (0..len).step_by(VECTOR) {
            let mask = u64::MAX >> (VECTOR - VECTOR.min(len - at));
            // SAFETY: the caller promises that the elements can be read, and a stretch written in each part; only
            // detection makes a token, so the machine has the instructions.
            unsafe { self.0.rewrite(_mm512_maskz_loadu_epi8(mask, from.add(at).cast()), to.add(at), part) };
        }
    }

    #[inline(always)]
    fn part_i8(self, w: __m512i, part: usize) -> __m512i {
        self.0.part(w, part)
    }

    #[inline(always)]
    fn add_part_i8(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.0.add_part(sums, w, x)
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let (words, mask) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(3));
            [
                _mm512_and_si512(words, mask),
                _mm512_and_si512(_mm512_srli_epi16::<2>(words), mask),
                _mm512_and_si512(_mm512_srli_epi16::<4>(words), mask),
                _mm512_and_si512(_mm512_srli_epi16::<6>(words), mask),
            ]
        }
    }

    #[inline(always)]
    fn dot_bytes(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.0.dot(sums, w, x)
    }

    #[inline(always)]
    unsafe fn store_i32(self, to: *mut i32, x: __m512i) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> __m512i {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_i32(self, from: *const i32, excess: *const i32) -> __m512 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            let (sums, excess) = (_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(excess.cast()));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, excess))
        }
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, x: __m512) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16, x: __m512) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16, x: __m512) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm256_storeu_si256(to.cast(), self.0.bf16(x)) }
    }

    #[inline(always)]
    unsafe fn load_bf16_of_pairs(self, from: *const u8, which: usize) -> __m512 {
        // SAFETY: the caller promises that the elements can be read; only detection makes a token, so the machine has
        // the instructions.
        unsafe {
            _mm512_castsi512_ps(match which {
                0 => _mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast())),
                // A load of its own: keeping the first one's result would push sums out of the registers.
                _ => _mm512_maskz_loadu_epi16(0xaaaa_aaaa, from.cast()),
            })
        }
    }

    #[inline(always)]
    fn dot_bf16(self, sums: __m512, w: __m512i, x: __m512i) -> __m512 {
        self.0.dot_bf16(sums, w, x)
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, first: __m512, second: __m512) {
        // SAFETY: the caller promises that the elements can be written; only detection makes a token, so the machine
        // has the instructions.
        unsafe { _mm512_storeu_ps(to, self.0.bf16_pairs(first, second)) }
    }

    #[inline(always)]
    fn exp2_16(self, x: __m512) -> __m512 {
        // x = n + r with |r| <= 1/2; 2^r by a polynomial of degree 3 that is off by 1.1e-4 of it at most, a twentieth
        // of what rounding to bfloat16 costs.
        // SAFETY: only detection makes a token, so the machine has the instructions.
        unsafe {
            let n = _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(x);
            let r = _mm512_sub_ps(x, n);
            let mut y = _mm512_set1_ps(EXP2[0]);
            for c in &EXP2[1..] {
                y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(*c));
            }
            _mm512_scalef_ps(y, n)
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: both squares as the caller promises; only detection makes a token, so the machine has the
        // instructions.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(r * from_stride));
            }
            // Squares of four inside 128 bits first, then the squares themselves.
            for four in rows.as_chunks_mut::<4>().0 {
                let [a, b, c, d] = *four;
                let ab = [_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)];
                let cd = [_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)];
                for i in 0..2 {
                    let (ab, cd) = (_mm512_castps_pd(ab[i]), _mm512_castps_pd(cd[i]));
                    four[2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
                    four[2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
                }
            }
            for j in 0..4 {
                let [a, b, c, d] = [rows[j], rows[4 + j], rows[8 + j], rows[12 + j]];
                let even = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                let odd = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                _mm512_storeu_ps(to.add(j * to_stride), _mm512_shuffle_f32x4::<0x88>(even.0, even.1));
                _mm512_storeu_ps(to.add((4 + j) * to_stride), _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1));
                _mm512_storeu_ps(to.add((8 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(even.0, even.1));
                _mm512_storeu_ps(to.add((12 + j) * to_stride), _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1));
            }
        }
    }

    blocks!(columns 6, 4, 2, columns: F32, columns_bf16: BF16);
    blocks!(6, 4, block_f32: F32, block_wide_f16: WideF16, block_wide_bf16: WideBF16, block_f16: F16);

    #[inline(always)]
    unsafe fn block_bf16(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { self.0.block_bf16(b) }
    }

    #[inline(always)]
    unsafe fn block_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { self.0.block_i8(b) }
    }

    #[inline(always)]
    unsafe fn row_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { self.0.row_i8(b) }
    }

    #[inline(always)]
    fn begin_blocks(self, rows: usize) {
        self.0.begin_blocks(rows);
    }

    #[inline(always)]
    fn end_blocks(self) {
        self.0.end_blocks();
    }
}
