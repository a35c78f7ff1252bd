use denoir_core::ops::RmsNorm;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{NORMED_COLUMNS, ROW_THREADS, Target, rows};
use crate::modules::Kernel;

arguments! { RmsNormArgs, 72, {
    x: Matrix,
    weight: u64,
    position: Matrix,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    eps: f32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<RmsNormArgs>("rms_norm", ROW_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &RmsNorm) -> Result<(), Error> {
    let args = RmsNormArgs {
        x: on.matrix(&op.x)?,
        weight: on.row(&op.weight)?,
        position: op.position.map_or(Ok(Matrix::default()), |position| on.matrix(&position))?,
        out: on.any_matrix(&op.out)?,
        out_scale: on.row_if(op.out_scale.as_ref())?,
        cols: word(op.out.cols),
        eps: op.eps,
    };
    on.run(&KERNEL, rows(op.out.rows, op.out.cols, NORMED_COLUMNS)?, &args)
}
