use denoir_core::ops::Patchify;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &Patchify) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::Patchify);
    l.constant(1, element_type(op.out.dtype));
    let image = l.read(&op.image)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        image.at, image.stride, word(op.image.rows), out.at, out.stride, word(op.out.rows), word(op.out.cols),
        word(op.grid), word(op.patch),
    ];
    l.run(&args, plane(op.out.rows * op.out.cols.div_ceil(4)), 20 * op.out.rows * op.out.cols)
}
