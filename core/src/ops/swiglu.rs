use super::memory::{Bounds, InvalidOp, Memory, silu};
use crate::{DType, View};

/// Number of channels that [`rotate`] mixes.
pub const ROTATION: usize = 16;

/// Rotates a row by a Hadamard matrix: channels `i, n + i, ..., 15 · n + i`, with `n` a [`ROTATION`]th of the row,
/// rounded down, become their sums with 16 combinations of signs, divided by 4. The row's end, shorter than 16, stays.
///
/// SwiGLU's output has outliers, which int8 represents badly; the rotation spreads each over 16 channels. A linear
/// layer's product stays the same if its input and its weights are both rotated. (QuaRot, arXiv 2404.00456.)
pub fn rotate(row: &mut [f32]) {
    let n = row.len() / ROTATION;
    for i in 0..n {
        let mut group: [f32; ROTATION] = core::array::from_fn(|j| row[j * n + i]);
        for bit in [1, 2, 4, 8] {
            for j in (0..ROTATION).filter(|j| j & bit == 0) {
                (group[j], group[j | bit]) = (group[j] + group[j | bit], group[j] - group[j | bit]);
            }
        }
        for (j, x) in group.iter().enumerate() {
            row[j * n + i] = x * 0.25;
        }
    }
}

/// Channel `i` of a rotated group.
pub(super) fn rotated(group: &[f64; ROTATION], i: usize) -> f64 {
    let sign = |j: usize| if (j & i).count_ones().is_multiple_of(2) { 0.25 } else { -0.25 };
    group.iter().enumerate().map(|(j, x)| sign(j) * x).sum()
}

/// `out = SiLU(x[.., ..half]) · x[.., half..]`, rotated if requested.
#[derive(Clone, Copy, Debug)]
pub struct Swiglu {
    /// `(rows, 2 · half)` f32. Its first half may be overwritten with values yet to be quantised.
    pub x: View,
    /// `(rows, half)` in the type that the next linear layer takes.
    pub out: View,
    /// `(1, rows)` f32, for int8 `out` only.
    pub out_scale: Option<View>,
    /// Whether [`rotate`] is applied to each row before rounding.
    pub rotated: bool,
}

impl Swiglu {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "swiglu";
        bounds.shaped(AT, &self.x, DType::F32, self.out.rows, self.out.cols.saturating_mul(2))?;
        bounds.output(AT, &self.x, &[])?;
        bounds.activations(AT, &self.out, &self.out_scale, &[&self.x])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let n = if self.rotated { self.out.cols / ROTATION } else { 0 };
        for r in 0..self.out.rows {
            let product = |mem: &Memory<'_>, c| silu(mem.load(&self.x, r, c)) * mem.load(&self.x, r, self.out.cols + c);
            mem.store_row(&self.out, self.out_scale.as_ref(), r, |mem, c| {
                if c >= n * ROTATION {
                    return product(mem, c);
                }
                rotated(&core::array::from_fn(|j| product(mem, j * n + c % n)), c / n)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_spreads_values_and_undoes_itself() {
        // Three groups, and two channels that stay.
        let row: [f32; 50] = core::array::from_fn(|i| (i * i % 23) as f32 - 11.0);
        let mut rotated = row;
        rotate(&mut rotated);
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
        assert!((length(&row) - length(&rotated)).abs() < 1e-2 && row != rotated && row[48..] == rotated[48..]);
        rotate(&mut rotated);
        assert!(row.iter().zip(rotated).all(|(x, y)| (x - y).abs() < 1e-5));

        let mut one = [0.0; 48];
        one[4] = 8.0;
        rotate(&mut one);
        let expected: [f32; 48] = core::array::from_fn(|i| match (i % 3, i / 3 % 2) {
            (1, 0) => 2.0,
            (1, 1) => -2.0,
            _ => 0.0,
        });
        assert_eq!(one, expected);
    }
}
