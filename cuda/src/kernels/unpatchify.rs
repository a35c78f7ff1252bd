use denoir_core::ops::{PixelOrder, Unpatchify};

use crate::Error;
use crate::args::{Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::modules::Kernel;

arguments! { UnpatchifyArgs, 56, {
    x: Matrix,
    out: Matrix,
    cols: u32,
    grid: u32,
    patch: u32,
    channels: u32,
    channel_first: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<UnpatchifyArgs>("unpatchify", LINE_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &Unpatchify) -> Result<(), Error> {
    let args = UnpatchifyArgs {
        x: on.matrix(&op.x)?,
        out: on.matrix(&op.out)?,
        cols: word(op.out.cols),
        grid: word(op.grid),
        patch: word(op.patch),
        channels: word(op.x.cols / (op.patch * op.patch)),
        channel_first: u32::from(op.order == PixelOrder::ChannelFirst),
        unused: 0,
    };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
