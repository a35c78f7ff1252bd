use denoir_core::ops::SolverStep;

use crate::Error;
use crate::launch::{Launch, Launcher, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &SolverStep) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::SolverStep);
    l.constant(1, u32::from(op.guided()));
    let x = l.write(&op.x)?;
    let x_eval = l.write(&op.x_eval)?;
    let x_hat = l.write(&op.x_hat)?;
    let velocity = l.write(&op.velocity)?;
    let step = l.read(&op.step)?;
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, x_eval.at, x_eval.stride, x_hat.at, x_hat.stride, velocity.at, velocity.stride, step.at,
        word(op.x.rows), word(op.x.cols),
    ];
    l.run(&args, plane(op.x.rows * op.x.cols), 40 * op.x.rows * op.x.cols)
}
