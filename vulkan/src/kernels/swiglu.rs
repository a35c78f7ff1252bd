use denoir_core::ops::Swiglu;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &Swiglu) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::Swiglu);
    l.constant(1, element_type(op.out.dtype));
    l.constant(2, u32::from(op.rotated));
    let x = l.write(&op.x)?;
    let out = l.write(&op.out)?;
    let scale = l.write_some(op.out_scale.as_ref())?;
    let args = [x.at, x.stride, out.at, out.stride, scale.at, word(op.out.cols)];
    l.run(&args, [op.out.rows, 1, 1], 20 * op.out.rows * op.out.cols)
}
