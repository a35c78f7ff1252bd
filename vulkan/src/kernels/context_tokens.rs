use denoir_core::ops::ContextTokens;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &ContextTokens) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::ContextTokens);
    l.constant(1, element_type(op.table.dtype));
    let table = l.read(&op.table)?;
    let position = l.read(&op.position)?;
    let labels = l.read(&op.labels)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        table.at, table.stride, position.at, position.stride, word(op.position.rows), labels.at, out.at, out.stride,
        word(op.out.rows), word(op.out.cols),
    ];
    l.run(&args, plane(op.out.rows * op.out.cols), 10 * op.out.rows * op.out.cols)
}
