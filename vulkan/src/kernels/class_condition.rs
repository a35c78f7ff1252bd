use denoir_core::ops::ClassCondition;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &ClassCondition) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::ClassCondition);
    l.constant(1, element_type(op.table.dtype));
    let t_emb = l.read(&op.t_emb)?;
    let table = l.read(&op.table)?;
    let labels = l.read(&op.labels)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        t_emb.at, t_emb.stride, table.at, table.stride, labels.at, word(op.labels.cols), out.at, out.stride,
        word(op.out.rows), word(op.out.cols),
    ];
    l.run(&args, plane(op.out.rows * op.out.cols), 20 * op.out.rows * op.out.cols)
}
