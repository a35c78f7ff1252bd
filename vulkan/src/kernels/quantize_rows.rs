use denoir_core::ops::QuantizeRows;

use crate::Error;
use crate::launch::{Launch, Launcher, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &QuantizeRows) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::QuantizeRows);
    let x = l.read(&op.x)?;
    let out = l.write(&op.out)?;
    let scale = l.write(&op.out_scale)?;
    let args = [x.at, x.stride, out.at, out.stride, scale.at, word(op.out.cols)];
    l.run(&args, [op.out.rows, 1, 1], 10 * op.out.rows * op.out.cols)
}
