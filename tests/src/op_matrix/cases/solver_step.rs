use denoir_core::ops::{HISTORY, Op, SolverStep, StepValues};
use denoir_core::{DType, Region};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for guided in [false, true] {
        for slot in 0..HISTORY {
            for (images, pixels) in [(1, 1), (1, 3), (2, 16), (3, 100), (1, 4096), (2, 4101)] {
                let branches = if guided { "guided" } else { "unguided" };
                let name = format!("{branches} slot {slot} {images} images × {pixels}");
                table.add(name, move |d| case(d, guided, slot, images, pixels));
            }
        }
    }
}

/// Velocities whose weights are zero are NaN: those of the slots that were never written, and often the new one's
/// own slot before it is written.
fn case(mut d: Draw, guided: bool, slot: usize, images: usize, pixels: usize) -> Case {
    let mut step = StepValues { slot: slot as u32, guidance: 1.0 + 4.0 * d.rng.unit() as f32, ..Default::default() };
    step.remaining = d.rng.pick(&[0.05, 0.3, 1.0]);
    for j in 0..HISTORY {
        let weight = |d: &mut Draw| if d.rng.below(2) == 0 { 0.0 } else { 0.1 * d.rng.normal() as f32 };
        (step.advance[j], step.look_ahead[j]) = (weight(&mut d), weight(&mut d));
    }
    let x = d.x(DType::F32, images, pixels);
    let x_eval = d.x(DType::F32, images, pixels);
    let x_hat = d.x(DType::F32, if guided { 2 * images } else { images }, pixels);
    let velocity = d.x(DType::F32, HISTORY * images, pixels);
    for j in 0..HISTORY {
        if j == slot || (step.advance[j] == 0.0 && step.look_ahead[j] == 0.0) {
            d.poison(&velocity.rows_from(j * images, images));
        }
    }
    let words: [u32; 11] = bytemuck::cast(step);
    let step_view = d.matrix(Region::Arena, DType::U32, (1, words.len()), |_, _, c| f64::from(words[c]));
    let op = SolverStep { x, x_eval, x_hat, velocity, step: step_view };
    // Each branch's v is below 12 / remaining, and two of them are rounded before guidance amplifies what is left.
    let size = f64::from(step.guidance / step.remaining);
    let close = |size: f64| Tolerance::close(1.5e-6 * (1.0 + size), 1e-6, "f32 velocity, amplified");
    let outputs = [
        (x, close(size)),
        (x_eval, close(size)),
        (x_hat.rows_from(0, images), close(f64::from(step.guidance))),
        (velocity.rows_from(slot * images, images), close(size)),
    ];
    d.finish(Op::SolverStep(op), outputs)
}
