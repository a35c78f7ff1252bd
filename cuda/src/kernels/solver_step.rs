use denoir_core::ops::SolverStep;

use crate::Error;
use crate::args::{Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::modules::Kernel;

arguments! { SolverStepArgs, 80, {
    x: Matrix,
    x_eval: Matrix,
    x_hat: Matrix,
    velocity: Matrix,
    step: u64,
    pixels: u32,
    guided: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<SolverStepArgs>("solver_step", LINE_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &SolverStep) -> Result<(), Error> {
    let args = SolverStepArgs {
        x: on.matrix(&op.x)?,
        x_eval: on.matrix(&op.x_eval)?,
        x_hat: on.matrix(&op.x_hat)?,
        velocity: on.matrix(&op.velocity)?,
        step: on.row(&op.step)?,
        pixels: word(op.x.cols),
        guided: u32::from(op.guided()),
    };
    on.run(&KERNEL, line(op.x.rows * op.x.cols)?, &args)
}
