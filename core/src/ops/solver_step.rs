use bytemuck::{Pod, Zeroable};

use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// Number of velocities kept for multi-step solvers.
pub const HISTORY: usize = 4;

/// The solver's numbers for one evaluation. The device reads them from a small buffer, so that a recorded pass can be
/// replayed. Eleven words, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct StepValues {
    /// Weights of the stored velocities in the advance of the trajectory.
    pub advance: [f32; HISTORY],
    /// Weights of the stored velocities in the network's next input.
    pub look_ahead: [f32; HISTORY],
    /// `max(1 − t, 0.05)`: the divisor of `x̂ − x`.
    pub remaining: f32,
    /// Classifier-free guidance scale; read only if both branches were evaluated.
    pub guidance: f32,
    /// Index of the stored velocity that this evaluation replaces.
    pub slot: u32,
}

/// Every solver's step, after one evaluation of the network at `x_eval`:
///
/// ```text
/// v             = (x̂ − x_eval) / remaining           of each branch
/// v             = v_null + guidance · (v − v_null)    where both were evaluated
/// velocity[slot] = v
/// x             = x + Σ advance[j] · velocity[j]
/// x_eval        = x + Σ look_ahead[j] · velocity[j]
/// x̂             = x_eval(before) + remaining · v       the guided prediction, for previews
/// ```
///
/// A velocity with weight zero is not read, so one that was never written may hold anything.
#[derive(Clone, Copy, Debug)]
pub struct SolverStep {
    /// `(images, C · H · W)` f32: the trajectory.
    pub x: View,
    /// `(images, C · H · W)` f32: the network's last input, replaced by its next one.
    pub x_eval: View,
    /// `(images, ..)` f32, or `(2 · images, ..)` with the null branch in the second half.
    pub x_hat: View,
    /// `(HISTORY · images, C · H · W)` f32, one slot after another.
    pub velocity: View,
    /// `(1, 11)` u32 words: [`StepValues`].
    pub step: View,
}

impl SolverStep {
    /// Returns whether both branches of classifier-free guidance were evaluated.
    pub const fn guided(&self) -> bool {
        self.x_hat.rows == self.x.rows.saturating_mul(2)
    }

    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "solver_step";
        let (images, pixels) = (self.x.rows, self.x.cols);
        require(self.x_hat.rows == images || self.guided(), AT, "wrong number of predictions")?;
        bounds.shaped(AT, &self.x, DType::F32, images, pixels)?;
        bounds.shaped(AT, &self.x_eval, DType::F32, images, pixels)?;
        bounds.shaped(AT, &self.x_hat, DType::F32, self.x_hat.rows, pixels)?;
        bounds.shaped(AT, &self.velocity, DType::F32, images.saturating_mul(HISTORY), pixels)?;
        bounds.shaped(AT, &self.step, DType::U32, 1, size_of::<StepValues>() / 4)?;
        bounds.output(AT, &self.x, &[&self.x_eval, &self.x_hat, &self.velocity, &self.step])?;
        bounds.output(AT, &self.x_eval, &[&self.x_hat, &self.velocity, &self.step])?;
        bounds.output(AT, &self.x_hat, &[&self.velocity, &self.step])?;
        bounds.output(AT, &self.velocity, &[&self.step])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let images = self.x.rows;
        let s = bytemuck::cast::<[u32; 11], StepValues>(core::array::from_fn(|i| mem.index(&self.step, 0, i) as u32));
        let slot = s.slot as usize % HISTORY;
        for image in 0..images {
            for c in 0..self.x.cols {
                let x_eval = mem.load(&self.x_eval, image, c);
                let remaining = f64::from(s.remaining);
                let mut v = (mem.load(&self.x_hat, image, c) - x_eval) / remaining;
                if self.guided() {
                    let null = (mem.load(&self.x_hat, images + image, c) - x_eval) / remaining;
                    v = null + f64::from(s.guidance) * (v - null);
                }
                mem.store(&self.velocity, slot * images + image, c, v);
                let sum = |mem: &Memory<'_>, weights: &[f32; HISTORY]| {
                    (0..HISTORY)
                        .filter(|&j| weights[j] != 0.0)
                        .map(|j| {
                            // The new velocity is taken before it was rounded for storage.
                            let past = if j == slot { v } else { mem.load(&self.velocity, j * images + image, c) };
                            f64::from(weights[j]) * past
                        })
                        .sum::<f64>()
                };
                let x = mem.load(&self.x, image, c) + sum(mem, &s.advance);
                mem.store(&self.x, image, c, x);
                let next = x + sum(mem, &s.look_ahead);
                mem.store(&self.x_eval, image, c, next);
                mem.store(&self.x_hat, image, c, x_eval + remaining * v);
            }
        }
    }
}
