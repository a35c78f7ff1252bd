use half::{bf16, f16};

use super::block::Lines;
use super::product::blocks;
use super::{MAX_LANES, Simd};
use crate::built;

/// Portable Rust. Eight lanes and no fused operation, so that the result is the same everywhere, whatever vectors
/// the compiler makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar;

const LANES: usize = 8;
type Lanes = [f32; LANES];

#[cfg_attr(feature = "simd", inline(always))]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    core::array::from_fn(|i| f(a[i], b[i]))
}

/// The upper half of an f32. By hand: `half` looks for NaN in each, to make it a quiet one.
#[cfg_attr(feature = "simd", inline(always))]
fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Four bytes of each column as four rows of numbers.
#[cfg_attr(feature = "simd", inline(always))]
fn columns(bytes: [[u8; 4]; LANES]) -> [[i32; LANES]; 4] {
    let words = bytes.map(i32::from_le_bytes);
    core::array::from_fn(|j| words.map(|word| word << (24 - 8 * j) >> 24))
}

// SAFETY: needs no instructions beyond the target's own.
unsafe impl Simd for Scalar {
    type F32 = Lanes;
    type I32 = [i32; LANES];
    const LANES: usize = LANES;
    const BYTES: usize = 16;
    const ROWS: usize = 2;
    const PANEL: usize = 2 * LANES;
    const UNSIGNED: bool = false;
    const BF16: bool = false;
    /// The first byte of each column, the second, the third and the fourth: what the compiler can make vectors of.
    type Bytes = [[i32; LANES]; 4];
    type Panel = Lines<{ 2 * LANES }>;
    /// Few, for the sake of small stacks.
    type Sums = [Self::Panel; if built::SMALL { 4 } else { 8 }];
    type Slice = [Self::Panel; 16];

    #[cfg_attr(feature = "simd", inline(always))]
    fn splat(self, x: f32) -> Lanes {
        [x; LANES]
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load(self, from: *const f32) -> Lanes {
        // SAFETY: readable, as the caller promises.
        unsafe { from.cast::<Lanes>().read_unaligned() }
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load_f16(self, from: *const f16) -> Lanes {
        // SAFETY: readable, as the caller promises.
        unsafe { from.cast::<[f16; LANES]>().read_unaligned() }.map(f16::to_f32_const)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load_bf16(self, from: *const bf16) -> Lanes {
        // SAFETY: readable, as the caller promises.
        unsafe { from.cast::<[bf16; LANES]>().read_unaligned() }.map(widened)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn store(self, to: *mut f32, x: Lanes) {
        // SAFETY: writable, as the caller promises.
        unsafe { to.cast::<Lanes>().write_unaligned(x) };
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn max_magnitude(self, a: Lanes, x: Lanes) -> Lanes {
        zip(a, x, |a, x| f32::from_bits(a.to_bits().max(x.abs().to_bits())))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        self.add(self.mul(a, b), c)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn sqrt(self, a: Lanes) -> Lanes {
        a.map(libm::sqrtf)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn pow2(self, n: Lanes) -> Lanes {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn rope_pairs(self, x: Lanes, waves: Lanes) -> Lanes {
        let sign = [-1.0, 1.0];
        core::array::from_fn(|i| x[i] * waves[i & !1] + sign[i & 1] * (x[i ^ 1] * waves[i | 1]))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn sum(self, x: Lanes) -> f32 {
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn zero_i32(self) -> [i32; LANES] {
        [0; LANES]
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn dot_i8(self, sums: [i32; LANES], a: *const i8, b: *const i8) -> [i32; LANES] {
        // SAFETY: readable, as the caller promises.
        let (a, b) = unsafe { (a.cast::<[i8; 16]>().read_unaligned(), b.cast::<[i8; 16]>().read_unaligned()) };
        let product = |i: usize| i32::from(i16::from(a[i]) * i16::from(b[i]));
        core::array::from_fn(|i| sums[i] + product(2 * i) + product(2 * i + 1))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn sum_i32(self, x: [i32; LANES]) -> i32 {
        x.iter().sum()
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn bytes(self, from: *const u8) -> Self::Bytes {
        // SAFETY: readable, as the caller promises.
        columns(unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() })
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn splat_bytes(self, x: u32) -> Self::Bytes {
        columns([x.to_ne_bytes(); LANES])
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn codes(self, from: *const u8) -> [Self::Bytes; 4] {
        // SAFETY: readable, as the caller promises.
        let words: [[u8; 4]; LANES] = unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() };
        [0, 2, 4, 6].map(|bit| columns(words.map(|word| word.map(|byte| byte >> bit & 3))))
    }

    #[cfg_attr(feature = "simd", inline(always))]
    fn dot_bytes(self, mut sums: [i32; LANES], w: Self::Bytes, x: Self::Bytes) -> [i32; LANES] {
        for j in 0..4 {
            for i in 0..LANES {
                sums[i] += w[j][i] * x[j][i];
            }
        }
        sums
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn store_i32(self, to: *mut i32, x: [i32; LANES]) {
        // SAFETY: writable, as the caller promises.
        unsafe { to.cast::<[i32; LANES]>().write_unaligned(x) };
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load_sums(self, from: *const i32) -> [i32; LANES] {
        // SAFETY: readable, as the caller promises.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load_i32(self, from: *const i32, excess: *const i32) -> Lanes {
        // SAFETY: readable, as the caller promises.
        let (sums, excess): ([i32; LANES], [i32; LANES]) =
            unsafe { (from.cast::<[i32; LANES]>().read_unaligned(), excess.cast::<[i32; LANES]>().read_unaligned()) };
        core::array::from_fn(|i| sums[i].wrapping_sub(excess[i]) as f32)
    }

    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn load_bf16_of_pairs(self, from: *const u8, which: usize) -> Lanes {
        // SAFETY: readable, as the caller promises.
        unsafe { from.cast::<[[bf16; 2]; LANES]>().read_unaligned() }.map(|pair| widened(pair[which]))
    }

    blocks!(2, 2, 1);
    blocks!(2, 2, block_i8: I8);
    blocks!(1, 2, row_i8: I8);
}

const _: () = assert!(LANES <= MAX_LANES);
