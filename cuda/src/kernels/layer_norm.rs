use denoir_core::ops::LayerNorm;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{NORMED_COLUMNS, ROW_THREADS, Target, rows};
use crate::modules::Kernel;

arguments! { LayerNormArgs, 48, {
    x: Matrix,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    eps: f32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<LayerNormArgs>("layer_norm", ROW_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &LayerNorm) -> Result<(), Error> {
    let args = LayerNormArgs {
        x: on.matrix(&op.x)?,
        out: on.any_matrix(&op.out)?,
        out_scale: on.row_if(op.out_scale.as_ref())?,
        cols: word(op.out.cols),
        eps: op.eps,
    };
    on.run(&KERNEL, rows(op.out.rows, op.out.cols, NORMED_COLUMNS)?, &args)
}
