use denoir_core::ops::DequantizeBlocks;

use crate::Error;
use crate::launch::{Launch, Launcher, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &DequantizeBlocks) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::DequantizeBlocks);
    let x = l.read(&op.x)?;
    let out = l.write(&op.out)?;
    let args = [x.at, x.stride, out.at, out.stride, word(op.out.rows), word(op.out.cols)];
    l.run(&args, plane(op.out.rows * op.out.cols), 10 * op.out.rows * op.out.cols)
}
