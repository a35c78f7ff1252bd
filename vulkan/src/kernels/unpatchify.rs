use denoir_core::ops::{PixelOrder, Unpatchify};

use crate::Error;
use crate::launch::{Launch, Launcher, plane, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &Unpatchify) -> Result<(), Error> {
    let mut l = Launch::new(on, Shader::Unpatchify);
    let x = l.read(&op.x)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        x.at, x.stride, out.at, out.stride, word(op.out.rows), word(op.out.cols), word(op.grid), word(op.patch),
        word(op.x.cols / (op.patch * op.patch)), u32::from(op.order == PixelOrder::ChannelFirst),
    ];
    l.run(&args, plane(op.out.rows * op.out.cols), 20 * op.out.rows * op.out.cols)
}
