use denoir_core::ops::RmsNorm;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::engine::Cuda;
use crate::launch::ROW_THREADS;
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

pub(crate) fn launch(cuda: &mut Cuda, op: &RmsNorm) -> Result<(), Error> {
    let args = RmsNormArgs {
        x: cuda.matrix(&op.x)?,
        weight: cuda.row(&op.weight)?,
        position: op.position.map_or(Ok(Matrix::default()), |position| cuda.matrix(&position))?,
        out: cuda.any_matrix(&op.out)?,
        out_scale: cuda.row_if(op.out_scale.as_ref())?,
        cols: word(op.out.cols),
        eps: op.eps,
    };
    cuda.run(&KERNEL, [op.out.rows, 1, 1], &args)
}
