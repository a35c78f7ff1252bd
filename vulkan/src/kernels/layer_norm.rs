use denoir_core::ops::LayerNorm;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &LayerNorm) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::LayerNorm);
    l.constant(1, element_type(op.out.dtype));
    let x = l.read(&op.x)?;
    let out = l.write(&op.out)?;
    let out_scale = l.write_some(op.out_scale.as_ref())?;
    let args = [x.at, x.stride, out.at, out.stride, out_scale.at, word(op.out.cols), op.eps.to_bits()];
    l.run(&args, [op.out.rows, 1, 1], 20 * op.out.rows * op.out.cols)
}
