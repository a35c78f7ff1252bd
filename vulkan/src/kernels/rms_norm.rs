use denoir_core::ops::RmsNorm;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &RmsNorm) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::RmsNorm);
    l.constant(1, element_type(op.out.dtype));
    l.constant(2, u32::from(op.position.is_some()));
    let x = l.read(&op.x)?;
    let weight = l.read(&op.weight)?;
    let position = l.read_some(op.position.as_ref())?;
    let out = l.write(&op.out)?;
    let out_scale = l.write_some(op.out_scale.as_ref())?;
    let period = op.position.map_or(0, |position| position.rows);
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, weight.at, position.at, position.stride, word(period), out.at, out.stride, out_scale.at,
        word(op.out.cols), op.eps.to_bits(),
    ];
    l.run(&args, [op.out.rows, 1, 1], 20 * op.out.rows * op.out.cols)
}
