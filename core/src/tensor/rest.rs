/// The residuals of weights rounded to int8. Each has two bits, which divide the step of a row's scale into four; code
/// `c` stands for `(c − 1.5) / 4` of a step.
///
/// Sixteen weights share a word of four bytes: weight `k` is in byte `k mod 4` of word `k / 16`, in the bits from `2 ·
/// (k mod 16 / 4)` on. So one mask and one shift give four neighbours, byte by byte, in the order of int8 products.
/// Words are padded with zeros, which are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Rest;

impl Rest {
    /// Weights per word.
    pub const WORD: usize = 16;

    /// Bytes of a row of `k` weights.
    pub const fn bytes(k: usize) -> usize {
        k.div_ceil(Rest::WORD).saturating_mul(size_of::<u32>())
    }

    /// Byte and lowest bit of weight `k`.
    pub const fn place(k: usize) -> (usize, usize) {
        (k / Rest::WORD * size_of::<u32>() + k % 4, k % Rest::WORD / 4 * 2)
    }

    /// The code for the residual of a weight of `exact` steps rounded to `rounded`.
    pub fn code(exact: f32, rounded: f32) -> u8 {
        ((exact - rounded) * 4.0 + 2.0).clamp(0.0, 3.0) as u8
    }

    /// The residual that a code stands for, in steps.
    pub const fn value(code: u8) -> f32 {
        (code as f32 - 1.5) / 4.0
    }
}
