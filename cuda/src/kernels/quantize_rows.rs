use denoir_core::ops::QuantizeRows;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{Launcher, ROW_THREADS};
use crate::modules::Kernel;

arguments! { QuantizeRowsArgs, 48, {
    x: Matrix,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<QuantizeRowsArgs>("quantize_rows", ROW_THREADS);

pub(crate) fn launch(on: &mut Launcher, op: &QuantizeRows) -> Result<(), Error> {
    let args = QuantizeRowsArgs {
        x: on.matrix(&op.x)?,
        out: on.any_matrix(&op.out)?,
        out_scale: on.row(&op.out_scale)?,
        cols: word(op.out.cols),
        unused: 0,
    };
    on.run(&KERNEL, [op.out.rows, 1, 1], &args)
}
