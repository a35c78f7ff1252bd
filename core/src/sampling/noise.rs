//! Starting noise: bit-identical to PyTorch's, or counter-based.
#![allow(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    clippy::approx_constant,
    reason = "the polynomials' published digits"
)]

/// The noise generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rng {
    /// Bit-identical to `torch.randn(shape, generator=manual_seed(seed))` for f32 on an x86-64 CPU.
    #[default]
    Torch,
    /// Philox4x32-10: value `i` depends only on the seed and `i`.
    Philox,
}

impl Rng {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Rng::Torch => "torch",
            Rng::Philox => "philox",
        }
    }

    /// Fills `out` with standard normal values.
    pub fn fill(self, seed: u64, out: &mut [f32]) {
        match self {
            Rng::Torch => torch_randn(seed, out),
            Rng::Philox => philox_randn(seed, out),
        }
    }
}

/// `torch.randn(out.len(), generator=torch.Generator().manual_seed(seed))`.
///
/// PyTorch first fills the buffer with uniforms and transforms blocks of 16. If the last block is partial, 16 fresh
/// uniforms replace the last 16 values. Below 16 values it draws pairs in f64 instead.
// Not in its caller's frame, where the generator's 2.5 KiB would stay.
#[inline(never)]
pub fn torch_randn(seed: u64, out: &mut [f32]) {
    let mut generator = Mt19937::new(seed as u32);
    if out.len() < 16 {
        return few(&mut generator, out);
    }
    out.fill_with(|| unit24(generator.draw()));
    let (blocks, rest) = out.as_chunks_mut::<16>();
    blocks.iter_mut().for_each(box_muller);
    if !rest.is_empty()
        && let Some(last) = out.last_chunk_mut::<16>()
    {
        last.fill_with(|| unit24(generator.draw()));
        box_muller(last);
    }
}

/// Standard normal values, value `i` from counter `i / 4` of the stream `seed`.
pub fn philox_randn(seed: u64, out: &mut [f32]) {
    for (counter, four) in out.chunks_mut(4).enumerate() {
        let words = philox4x32(counter as u64, seed);
        let (a, b) = normal_pair(unit24(words[0]), unit24(words[1]));
        let (c, d) = normal_pair(unit24(words[2]), unit24(words[3]));
        four.iter_mut().zip([a, b, c, d]).for_each(|(to, value)| *to = value);
    }
}

/// The low 24 bits as a number in [0, 1).
fn unit24(word: u32) -> f32 {
    (word & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
}

fn few(generator: &mut Mt19937, out: &mut [f32]) {
    let mut unit53 = || {
        let high = u64::from(generator.draw());
        let word = high << 32 | u64::from(generator.draw());
        (word & ((1 << 53) - 1)) as f64 * (1.0 / (1u64 << 53) as f64)
    };
    for pair in out.chunks_mut(2) {
        let (u1, u2) = (unit53(), unit53());
        let radius = libm::sqrt(-2.0 * libm::log1p(-u2));
        let angle = 2.0 * core::f64::consts::PI * u1;
        pair.iter_mut().zip([libm::cos(angle), libm::sin(angle)]).for_each(|(to, wave)| *to = (radius * wave) as f32);
    }
}

fn box_muller(block: &mut [f32; 16]) {
    for j in 0..8 {
        (block[j], block[j + 8]) = normal_pair(block[j], block[j + 8]);
    }
}

/// Two uniforms in [0, 1) to two normal values.
fn normal_pair(u1: f32, u2: f32) -> (f32, f32) {
    let radius = libm::sqrtf(-2.0 * log(1.0 - u1));
    let (sin, cos) = sin_cos(6.283185307179586 * u2);
    (radius * cos, radius * sin)
}

/// `a · b + c`, rounded once. The product of two f32 is exact in f64; rounding the sum to odd makes the second rounding
/// harmless.
fn fma(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // The error of the f64 sum, exactly (Knuth's two-sum).
    let back = sum - product;
    let error = (product - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 == 1 {
        return sum as f32;
    }
    // Truncate towards zero, then set the last bit.
    let towards_zero = if (error > 0.0) == (sum > 0.0) { bits } else { bits - 1 };
    f64::from_bits(towards_zero | 1) as f32
}

/// Cephes' single-precision logarithm, as PyTorch's AVX2 kernels evaluate it.
fn log(x: f32) -> f32 {
    const P: [f32; 9] = [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut exponent = (bits >> 23) as f32 - 126.0;
    let mut mantissa = f32::from_bits((bits & !0x7f80_0000) | 0x3f00_0000);
    let mut low = 0.0;
    if mantissa < core::f32::consts::FRAC_1_SQRT_2 {
        low = mantissa;
        exponent -= 1.0;
    }
    mantissa = (mantissa - 1.0) + low;
    let square = mantissa * mantissa;
    let mut y = P[1..].iter().fold(P[0], |y, &p| fma(y, mantissa, p));
    y = fma(y * mantissa, square, exponent * -2.12194440e-4);
    y = fma(-square, 0.5, y);
    fma(exponent, 0.693_359_375, mantissa + y)
}

/// Cephes' single-precision sine and cosine of `x >= 0`, as PyTorch's AVX2 kernels evaluate them.
fn sin_cos(x: f32) -> (f32, f32) {
    let octant = (x * 1.27323954473516) as i32;
    let octant = (octant + 1) & !1;
    let y = octant as f32;
    let mut r = fma(y, -0.78515625, x);
    r = fma(y, -2.4187564849853515625e-4, r);
    r = fma(y, -3.77489497744594108e-8, r);
    let z = r * r;
    let cos = fma(fma(2.443315711809948e-5, z, -1.388731625493765e-3), z, 4.166664568298827e-2);
    let cos = fma(cos * z, z, -(z * 0.5)) + 1.0;
    let sin = fma(fma(-1.9515295891e-4, z, 8.3321608736e-3), z, -1.6666654611e-1) * z;
    let sin = fma(sin, r, r);
    let (s, c) = if octant & 2 != 0 { (cos, sin) } else { (sin, cos) };
    let negative_sin = octant & 4 != 0;
    let negative_cos = (octant.wrapping_sub(2)) & 4 == 0;
    (if negative_sin { -s } else { s }, if negative_cos { -c } else { c })
}

/// The Mersenne Twister of PyTorch's CPU generator.
struct Mt19937 {
    state: [u32; 624],
    used: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Mt19937 {
        let mut state = [seed; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { state, used: 624 }
    }

    fn draw(&mut self) -> u32 {
        if self.used == 624 {
            self.refill();
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for k in 0..624 {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % 624] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + 397) % 624] ^ (y >> 1) ^ twist;
        }
        self.used = 0;
    }
}

/// Philox4x32 with ten rounds: "Parallel random numbers: as easy as 1, 2, 3" (Salmon et al., 2011).
fn philox4x32(counter: u64, key: u64) -> [u32; 4] {
    let mut c = [counter as u32, (counter >> 32) as u32, 0, 0];
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn philox_known_answers() {
        // From the authors' Random123 distribution, kat_vectors, philox4x32 10.
        assert_eq!(philox4x32(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn fma_rounds_once() {
        let mut generator = Mt19937::new(1);
        for _ in 0..200_000 {
            let mut value = || f32::from_bits((generator.draw() & 0x8fff_ffff) | 0x3000_0000);
            let (a, b, c) = (value(), value(), value());
            assert_eq!(fma(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{a} {b} {c}");
        }
    }

    #[test]
    fn torch_seed_0() {
        let mut out = vec![0.0; 3 * 256 * 256];
        torch_randn(0, &mut out);
        assert_eq!(out[..3], [-1.125_839_8, -1.152_360_2, -0.250_578_58]);
        assert_eq!(out[out.len() - 1], 1.265_655_3);
    }

    #[test]
    fn philox_is_normal_and_order_free() {
        let mut long = vec![0.0; 100_000];
        philox_randn(7, &mut long);
        let mut short = vec![0.0; 1001];
        philox_randn(7, &mut short);
        assert_eq!(long[..1001], short[..]);
        let mean = long.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let variance = long.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
