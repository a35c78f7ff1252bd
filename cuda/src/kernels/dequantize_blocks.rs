use denoir_core::ops::DequantizeBlocks;

use crate::Error;
use crate::args::{Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::modules::Kernel;

arguments! { DequantizeBlocksArgs, 40, {
    x: Matrix,
    out: Matrix,
    cols: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<DequantizeBlocksArgs>("dequantize_blocks", LINE_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &DequantizeBlocks) -> Result<(), Error> {
    let args =
        DequantizeBlocksArgs { x: on.matrix(&op.x)?, out: on.matrix(&op.out)?, cols: word(op.out.cols), unused: 0 };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
