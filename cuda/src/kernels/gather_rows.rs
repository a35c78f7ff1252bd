use denoir_core::ops::GatherRows;

use crate::Error;
use crate::args::{AnyMatrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::modules::Kernel;

arguments! { GatherRowsArgs, 56, {
    x: AnyMatrix,
    index: u64,
    out: AnyMatrix,
    rows: u32,
    cols: u32,
    count: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<GatherRowsArgs>("gather_rows", LINE_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &GatherRows) -> Result<(), Error> {
    let args = GatherRowsArgs {
        x: on.any_matrix(&op.x)?,
        index: on.row(&op.index)?,
        out: on.any_matrix(&op.out)?,
        rows: word(op.out.rows),
        cols: word(op.out.cols),
        count: word(op.count),
        unused: 0,
    };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
