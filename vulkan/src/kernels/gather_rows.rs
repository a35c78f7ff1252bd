use denoir_core::ops::GatherRows;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &GatherRows) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::GatherRows);
    l.constant(1, element_type(op.x.dtype));
    let x = l.read(&op.x)?;
    let index = l.read(&op.index)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, index.at, word(op.count), out.at, out.stride, word(op.out.rows), word(op.out.cols),
    ];
    l.run(&args, plane(op.out.rows * op.out.cols.div_ceil(4)), 10 * op.out.rows * op.out.cols)
}
