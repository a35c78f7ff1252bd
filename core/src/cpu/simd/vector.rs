//! What a kernel asks of an instruction set.

use bytemuck::Pod;
use half::{bf16, f16};

use super::block::{Block, Columns, Row, RowArray};
use crate::built;

/// Most f32 lanes of any instruction set.
pub(in crate::cpu) const MAX_LANES: usize = 16;

/// Vectors of f32. A value of the type is a token: holding one proves that the machine has the instructions.
///
/// # Safety
/// Implementations use only instructions that their token proves.
pub(in crate::cpu) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Simd::LANES`] f32.
    type F32: Copy;
    /// A vector of i32 sums of int8 products.
    type I32: Copy;
    /// f32 lanes.
    const LANES: usize;
    /// int8 elements that one [`Simd::dot_i8`] takes.
    const BYTES: usize;
    /// Rows of a register tile that keep the registers full: 6 or fewer.
    const ROWS: usize;
    /// Columns of a panel of packed weights: as many vectors as a register tile is wide.
    const PANEL: usize;
    /// Whether packed int8 weights are multiplied with unsigned activations, `x + 128`: sums are then too large by
    /// 128 times the sum of the weights, which packed panels end with.
    const UNSIGNED: bool;
    /// Elements of a column of packed int8 weights that lie side by side: 4 or 8.
    const I8_GROUP: usize = 4;
    /// Whether there are products of bf16 pairs.
    const BF16: bool;
    /// Whether vectors multiply bf16 pairs faster than f32.
    const BF16_VECTORS: bool = false;
    /// int8 weights of a vector of columns, or activations repeated in every column, four to a column.
    type Bytes: Copy;
    /// [`Simd::PANEL`] f32.
    type Panel: Row;
    /// Rows of sums that a tile keeps: whole blocks of every kind, at most [`super::block::MAX_ROWS`].
    type Sums: RowArray<Self::Panel>;
    /// Words of a column, as rows, that weights are packed in a slice of: whole chunks.
    type Slice: RowArray<Self::Panel>;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// # Safety
    /// `from` is readable for `LANES` elements.
    unsafe fn load(self, from: *const f32) -> Self::F32;
    /// Widens IEEE halves.
    ///
    /// # Safety
    /// `from` is readable for `LANES` elements.
    unsafe fn load_f16(self, from: *const f16) -> Self::F32;
    /// Widens bfloat16.
    ///
    /// # Safety
    /// `from` is readable for `LANES` elements.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::F32;
    /// # Safety
    /// `to` is writable for `LANES` elements.
    unsafe fn store(self, to: *mut f32, x: Self::F32);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger one; `b` where one is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger of `a`, which is not negative, and `|x|`; of anything and an infinity or a NaN the latter, which
    /// [`Simd::max`] may drop.
    fn max_magnitude(self, a: Self::F32, x: Self::F32) -> Self::F32;
    /// The smaller one; `b` where one is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, fused where the instruction set fuses.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `√a`
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `2^n` for a whole `n` in -126..=127.
    fn pow2(self, n: Self::F32) -> Self::F32;
    /// Turns each pair of lanes `(a, b)` by its pair `(cos, sin)` of `waves`: `(a·cos − b·sin, b·cos + a·sin)`.
    fn rope_pairs(self, x: Self::F32, waves: Self::F32) -> Self::F32;
    /// The sum of the lanes, halves added to halves.
    fn sum(self, x: Self::F32) -> f32;

    /// No products yet.
    fn zero_i32(self) -> Self::I32;
    /// Adds the products of `BYTES` pairs.
    ///
    /// # Safety
    /// `a` and `b` are readable for `BYTES` elements.
    unsafe fn dot_i8(self, sums: Self::I32, a: *const i8, b: *const i8) -> Self::I32;
    /// The sum of the lanes.
    fn sum_i32(self, x: Self::I32) -> i32;

    /// # Safety
    /// `from` is readable for `4 · LANES` bytes.
    unsafe fn bytes(self, from: *const u8) -> Self::Bytes;
    /// Four bytes in every column.
    fn splat_bytes(self, x: u32) -> Self::Bytes;
    /// Parts in which [`Simd::rewrite_i8`] writes activations: two where bytes are widened to 16 bits, 0 where products
    /// take activations as they are.
    const I8_PARTS: usize = 0;
    /// Writes int8 activations as products take them, and zeros after them, to a whole group at least. The second part
    /// starts `part` bytes after the first.
    ///
    /// # Safety
    /// `from` is readable for `len` elements, `to` writable for that many bytes in each part, rounded up to
    /// [`CHUNK`](super::block::CHUNK).
    #[inline(always)]
    unsafe fn rewrite_i8(self, _from: *const u8, _len: usize, _to: *mut u8, _part: usize) {}
    /// A part of a group of int8 weights.
    #[inline(always)]
    fn part_i8(self, w: Self::Bytes, _part: usize) -> Self::Bytes {
        w
    }
    /// Adds the products of a part of a group.
    #[inline(always)]
    fn add_part_i8(self, sums: Self::I32, w: Self::Bytes, x: Self::Bytes) -> Self::I32 {
        self.dot_bytes(sums, w, x)
    }
    /// A word of each column of a vector, taken apart into [`QuantResidual`](crate::QuantResidual)'s codes of four
    /// groups of four neighbours.
    ///
    /// # Safety
    /// `from` is readable for `4 · LANES` bytes.
    unsafe fn codes(self, from: *const u8) -> [Self::Bytes; 4];
    /// Adds to each lane the products of its column's four bytes. Where [`Simd::UNSIGNED`] says so, `x` is unsigned.
    /// Where [`Simd::I8_PARTS`] is 2, `x` is neither negative nor above 127.
    fn dot_bytes(self, sums: Self::I32, w: Self::Bytes, x: Self::Bytes) -> Self::I32;
    /// # Safety
    /// `to` is writable for `LANES` elements.
    unsafe fn store_i32(self, to: *mut i32, x: Self::I32);
    /// # Safety
    /// `from` is readable for `LANES` elements.
    unsafe fn load_sums(self, from: *const i32) -> Self::I32;
    /// Loads whole numbers, less `excess` in wrapping arithmetic, as f32.
    ///
    /// # Safety
    /// Both are readable for `LANES` elements.
    unsafe fn load_i32(self, from: *const i32, excess: *const i32) -> Self::F32;
    /// Rounds numbers in ±127 to the nearest whole one, ties to even.
    ///
    /// # Safety
    /// `to` is writable for `LANES` elements.
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, x: Self::F32) {
        // Adding 1.5 · 2^23 rounds to a whole number and leaves it in the low bits.
        let lanes = self.lanes(self.add(x, self.splat(12_582_912.0)));
        for (i, x) in lanes.iter().enumerate().take(Self::LANES) {
            // SAFETY: writable, as the caller promises.
            unsafe { *to.add(i) = x.to_bits() as i8 };
        }
    }
    /// Rounds to IEEE halves, ties to even.
    ///
    /// # Safety
    /// `to` is writable for `LANES` elements.
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16, x: Self::F32) {
        for (i, x) in self.lanes(x).iter().enumerate().take(Self::LANES) {
            // SAFETY: writable, as the caller promises.
            unsafe { *to.add(i) = f16::from_f32_const(*x) };
        }
    }
    /// Rounds to bfloat16, ties to even.
    ///
    /// # Safety
    /// `to` is writable for `LANES` elements.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16, x: Self::F32) {
        for (i, x) in self.lanes(x).iter().enumerate().take(Self::LANES) {
            // SAFETY: writable, as the caller promises.
            unsafe { *to.add(i) = bf16::from_f32_const(*x) };
        }
    }
    /// Widens the first (0) or the second (1) of each pair of bfloat16.
    ///
    /// # Safety
    /// `from` is readable for `LANES` pairs.
    unsafe fn load_bf16_of_pairs(self, from: *const u8, which: usize) -> Self::F32;
    /// Adds to each lane the products of its pair of bfloat16 and the pair `x`. Where [`Simd::BF16_VECTORS`] says so.
    #[cfg_attr(
        not(all(feature = "simd", target_arch = "x86_64")),
        allow(dead_code, reason = "only AVX-512 has it so far")
    )]
    #[inline(always)]
    fn dot_bf16(self, sums: Self::F32, _w: Self::Bytes, _x: Self::Bytes) -> Self::F32 {
        sums
    }

    /// Sums of products of up to [`Simd::ROWS`] rows and a panel of f32 weights.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_f32(self, b: &mut Block<'_>);
    /// The same for f16 weights and f32 activations.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_wide_f16(self, b: &mut Block<'_>);
    /// The same for bf16 weights and f32 activations.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_wide_bf16(self, b: &mut Block<'_>);
    /// The same for f16 on both sides.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_f16(self, b: &mut Block<'_>);
    /// The same for bf16 on both sides, up to [`Simd::DENSE_ROWS`] rows.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_bf16(self, b: &mut Block<'_>);
    /// The same for int8 on both sides, up to [`Simd::DENSE_ROWS`] rows; sums are i32.
    ///
    /// # Safety
    /// The block's promises.
    unsafe fn block_i8(self, b: &mut Block<'_>);
    /// The same for one row.
    ///
    /// # Safety
    /// The block's promises.
    #[inline(always)]
    unsafe fn row_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { self.block_i8(b) }
    }
    /// Rows of a block of int8 or bf16 products.
    const DENSE_ROWS: usize = Self::ROWS;
    /// Products with rows of a panel's width.
    ///
    /// # Safety
    /// The promises of [`Columns`].
    unsafe fn columns(self, c: &Columns);
    /// Products of bfloat16 pairs with rows of a panel's width. Where [`Simd::BF16_VECTORS`] says so.
    ///
    /// # Safety
    /// The promises of [`Columns`].
    #[cfg_attr(
        not(all(feature = "simd", target_arch = "x86_64")),
        allow(dead_code, reason = "only AVX-512 has them so far")
    )]
    #[inline(always)]
    unsafe fn columns_bf16(self, _c: &Columns) {}
    /// Rounds to bfloat16, ties to even, and writes each pair of lanes as one. Where [`Simd::BF16_VECTORS`] says so.
    ///
    /// # Safety
    /// `to` is writable for `LANES` pairs.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, _to: *mut f32, _first: Self::F32, _second: Self::F32) {}
    /// `2^x` for `x <= 0`, as exact as a bfloat16 needs it.
    #[inline(always)]
    fn exp2_16(self, x: Self::F32) -> Self::F32 {
        self.exp(self.mul(x, self.splat(core::f32::consts::LN_2)))
    }
    /// Turns a square of [`Simd::LANES`] rows and columns, whose rows are so many elements apart.
    ///
    /// # Safety
    /// `from` is readable and `to` writable for the square.
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for r in 0..Self::LANES {
            for c in 0..Self::LANES {
                // SAFETY: inside the squares.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
            }
        }
    }
    /// Asks for a line of memory that will be read soon.
    #[inline(always)]
    fn prefetch(self, _line: *const u8) {}
    /// Asks for a line of memory that will be used next.
    #[inline(always)]
    fn prefetch_near(self, _line: *const u8) {}
    /// Makes ready for `block_i8` and `block_bf16` of this many rows, which must be called before them.
    #[inline(always)]
    fn begin_blocks(self, _rows: usize) {}
    /// Ends a run of blocks.
    #[inline(always)]
    fn end_blocks(self) {}

    /// Loads the first elements of a slice; lanes past its end are 0.
    #[cfg_attr(feature = "simd", inline(always))]
    fn load_some(self, from: &[f32]) -> Self::F32 {
        f32::load_some(self, from)
    }

    /// Stores as many lanes as the slice has room for.
    #[cfg_attr(feature = "simd", inline(always))]
    fn store_some(self, to: &mut [f32], x: Self::F32) {
        if to.len() >= Self::LANES {
            // SAFETY: long enough.
            return unsafe { self.store(to.as_mut_ptr(), x) };
        }
        let len = to.len();
        to.copy_from_slice(&self.lanes(x)[..len]);
    }

    /// The lanes as an array; those past `LANES` are 0.
    #[cfg_attr(feature = "simd", inline(always))]
    fn lanes(self, x: Self::F32) -> [f32; MAX_LANES] {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: MAX_LANES elements.
        unsafe { self.store(lanes.as_mut_ptr(), x) };
        lanes
    }

    /// `e^x` within 2 units in the last place; e^-87 below -87 and e^88 above 88, so neither 0 nor infinite.
    #[cfg_attr(feature = "simd", inline(always))]
    fn exp(self, x: Self::F32) -> Self::F32 {
        // x = n · ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial, of which six terms suffice in f32.
        let x = self.min(self.splat(88.0), self.max(self.splat(-87.0), x));
        let magic = self.splat(12_582_912.0); // 1.5 · 2^23: adding it rounds to a whole number
        let n = self.sub(self.mul_add(x, self.splat(core::f32::consts::LOG2_E), magic), magic);
        let r = self.mul_add(n, self.splat(-0.693_359_4), x);
        let r = self.mul_add(n, self.splat(2.121_944_4e-4), r);
        let mut y = self.splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            y = self.mul_add(y, r, self.splat(c));
        }
        self.mul(y, self.pow2(n))
    }

    /// `x / (1 + e^-x)`; below -88, where that is 0 to within 1e-36, its value at -88, but NaN of an infinity.
    #[cfg_attr(feature = "simd", inline(always))]
    fn silu(self, x: Self::F32) -> Self::F32 {
        let clamped = self.max(self.splat(-88.0), x);
        let e = self.exp(self.sub(self.splat(0.0), clamped));
        // An infinity less itself is NaN; any other number is 0, and changes no bit.
        self.sub(self.div(clamped, self.add(self.splat(1.0), e)), self.sub(x, x))
    }

    /// `1 / √x` in all lanes. Not libm's root: its instruction would wait for the upper halves of the registers.
    #[cfg_attr(feature = "simd", inline(always))]
    fn inverse_root(self, x: f32) -> Self::F32 {
        self.div(self.splat(1.0), self.sqrt(self.splat(x)))
    }

    /// `Σ x²`
    #[cfg_attr(feature = "simd", inline(always))]
    fn sum_of_squares(self, x: &[f32]) -> f32 {
        // Four sums in registers: the loop inside has no index that is not known.
        let mut sums = [self.splat(0.0); 4];
        for four in x.chunks(4 * Self::LANES) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let v = self.load_some(&four[(i * Self::LANES).min(four.len())..]);
                *sum = self.mul_add(v, v, *sum);
            }
        }
        self.sum(self.add(self.add(sums[0], sums[1]), self.add(sums[2], sums[3])))
    }
}

/// A float element that widens to f32 as it is loaded.
pub(in crate::cpu) trait Element: Pod {
    /// Whether this build multiplies weights of this type.
    const WEIGHTS: bool;
    /// Whether this build multiplies activations of this type.
    const ACTIVATIONS: bool;

    /// # Safety
    /// `from` is readable for `S::LANES` elements.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F32;

    /// Loads the first elements of a slice; lanes past its end are 0.
    #[cfg_attr(feature = "simd", inline(always))]
    fn load_some<S: Simd>(s: S, from: &[Self]) -> S::F32 {
        if !Self::WEIGHTS {
            return s.splat(0.0);
        }
        if from.len() >= S::LANES {
            // SAFETY: long enough.
            return unsafe { Self::load(s, from.as_ptr()) };
        }
        let mut lanes = [Self::zeroed(); MAX_LANES];
        lanes[..from.len()].copy_from_slice(from);
        // SAFETY: MAX_LANES elements.
        unsafe { Self::load(s, lanes.as_ptr()) }
    }
}

impl Element for f32 {
    const WEIGHTS: bool = true;
    const ACTIVATIONS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f32) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load(from) }
    }
}

impl Element for f16 {
    const WEIGHTS: bool = built::F16;
    const ACTIVATIONS: bool = built::F16 && built::NARROW;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f16) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load_f16(from) }
    }
}

impl Element for bf16 {
    const WEIGHTS: bool = built::BF16;
    const ACTIVATIONS: bool = built::BF16 && built::NARROW;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const bf16) -> S::F32 {
        // SAFETY: the caller promises that a vector can be read.
        unsafe { s.load_bf16(from) }
    }
}
