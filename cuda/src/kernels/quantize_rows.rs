use denoir_core::ops::QuantizeRows;

use crate::Error;
use crate::args::{AnyMatrix, arguments, word};
use crate::launch::{MOST_COLUMNS, ROW_THREADS, Target, rows};
use crate::modules::Kernel;

arguments! { QuantizeRowsArgs, 48, {
    x: AnyMatrix,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    rotated: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<QuantizeRowsArgs>("quantize_rows", ROW_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &QuantizeRows) -> Result<(), Error> {
    let args = QuantizeRowsArgs {
        x: on.any_matrix(&op.x)?,
        out: on.any_matrix(&op.out)?,
        out_scale: on.row(&op.out_scale)?,
        cols: word(op.out.cols),
        rotated: u32::from(op.rotated),
    };
    on.run(&KERNEL, rows(op.out.rows, op.out.cols, MOST_COLUMNS)?, &args)
}
