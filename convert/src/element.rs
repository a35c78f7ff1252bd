//! Conversion of elements, block by block. Every loop is simple enough for the compiler to vectorise.

use denoir_core::QuantResidual;
use half::bf16;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::torch::ElementType;

/// Largest value of an I8 weight.
const I8_MAX: f32 = 127.0;
/// Bits of infinity: the absolute value of a non-finite number has at least these bits.
const INFINITY_BITS: u32 = 0x7f80_0000;

/// Reads little-endian `from` into f32. `from` holds exactly `to.len()` elements. f64 is rounded to nearest.
pub(crate) fn load(ty: ElementType, from: &[u8], to: &mut [f32]) {
    match ty {
        ElementType::F32 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        ElementType::F16 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = f16::from_le_bytes(*from).to_f32();
            }
        }
        ElementType::BF16 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = f32::from_bits(u32::from(u16::from_le_bytes(*from)) << 16);
            }
        }
        ElementType::F64 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks::<8>().0) {
                *to = f64::from_le_bytes(*from) as f32;
            }
        }
        // The caller has refused it: it has no size.
        ElementType::Other(_) => to.fill(f32::NAN),
    }
}

/// The largest absolute value, `None` where any value is NaN or infinite; 0 for no values.
pub(crate) fn max_abs(values: &[f32]) -> Option<f32> {
    // For non-negative floats the order of the bits is the order of the values, and NaN and infinity are on top.
    let bits = values.iter().fold(0u32, |max, v| max.max(v.to_bits() & 0x7fff_ffff));
    (bits < INFINITY_BITS).then(|| f32::from_bits(bits))
}

/// Appends f32.
pub(crate) fn store_f32(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

/// Appends bf16, rounded to nearest even. The values are finite.
pub(crate) fn store_bf16(values: &[f32], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
}

/// Appends f16, rounded to nearest even. The values are in its range.
pub(crate) fn store_f16(values: &[f32], scratch: &mut Vec<f16>, out: &mut Vec<u8>) {
    scratch.resize(values.len(), f16::ZERO);
    scratch.convert_from_f32_slice(values);
    out.extend(scratch.iter().flat_map(|v| v.to_le_bytes()));
}

/// Appends one row of I8, symmetric in ±127, and returns its scale: value = scale x integer.
///
/// `max` is the row's [`max_abs`]. A row of zeros, or of values too small for a normal scale, becomes zeros with
/// scale 0, so that nothing divides by zero.
pub(crate) fn store_i8_row(row: &[f32], max: f32, out: &mut Vec<u8>) -> f32 {
    let scale = max / I8_MAX;
    if scale < f32::MIN_POSITIVE {
        out.resize(out.len() + row.len(), 0);
        return 0.0;
    }
    let start = out.len();
    out.resize(start + row.len(), 0);
    for (to, v) in out[start..].iter_mut().zip(row) {
        *to = (rounded(v / scale) as i32) as u8;
    }
    scale
}

/// Appends the residual of a row of I8 with this scale, in the format of [`QuantResidual`].
pub(crate) fn store_rest_row(row: &[f32], scale: f32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + QuantResidual::bytes(row.len()), 0);
    if scale == 0.0 {
        return;
    }
    for (k, value) in row.iter().enumerate() {
        let (byte, bit) = QuantResidual::place(k);
        out[start + byte] |= QuantResidual::code(value / scale, rounded(value / scale)) << bit;
    }
}

/// The nearest integer of an I8 weight, ties to even.
fn rounded(steps: f32) -> f32 {
    /// Adding and subtracting 1.5 x 2^23 rounds a small f32 to nearest even, and vectorises everywhere.
    const ROUND: f32 = 12_582_912.0;
    (steps.clamp(-I8_MAX, I8_MAX) + ROUND) - ROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_every_type() {
        let mut out = [0.0; 2];
        load(ElementType::F32, &[1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat(), &mut out);
        assert_eq!(out, [1.5, -2.0]);
        load(ElementType::F64, &[1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat(), &mut out);
        assert_eq!(out, [1.5, -2.0]);
        load(
            ElementType::F16,
            &[f16::from_f32(1.5).to_le_bytes(), f16::from_f32(-2.0).to_le_bytes()].concat(),
            &mut out,
        );
        assert_eq!(out, [1.5, -2.0]);
        load(
            ElementType::BF16,
            &[bf16::from_f32(1.5).to_le_bytes(), bf16::from_f32(-2.0).to_le_bytes()].concat(),
            &mut out,
        );
        assert_eq!(out, [1.5, -2.0]);
    }

    #[test]
    fn not_finite_is_seen() {
        assert_eq!(max_abs(&[1.0, -3.0, 2.0]), Some(3.0));
        assert_eq!(max_abs(&[]), Some(0.0));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(max_abs(&[0.0, bad, 1.0]), None);
        }
    }

    #[test]
    fn rows_are_quantised_to_the_nearest_and_never_nan() {
        let row = [127.0, -127.0, 0.5, 1.5, -0.4, 126.6];
        let mut out = Vec::new();
        assert_eq!(store_i8_row(&row, 127.0, &mut out), 1.0);
        let ints: Vec<i8> = out.iter().map(|&b| b as i8).collect();
        assert_eq!(ints, [127, -127, 0, 2, 0, 127]);
        for tiny in [0.0, 1e-45, 1e-40] {
            out.clear();
            assert_eq!((store_i8_row(&[tiny, -tiny], tiny, &mut out), out.as_slice()), (0.0, &[0u8, 0][..]));
        }
        out.clear();
        let scale = store_i8_row(&[f32::MAX, f32::MIN], f32::MAX, &mut out);
        assert!(scale.is_finite() && out == [127, (-127i8) as u8]);
    }
}
