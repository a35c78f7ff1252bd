use denoir_core::ops::QuantizeRows;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::engine::Cuda;
use crate::launch::ROW_THREADS;
use crate::modules::Kernel;

arguments! { QuantizeRowsArgs, 48, {
    x: Matrix,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<QuantizeRowsArgs>("quantize_rows", ROW_THREADS);

pub(crate) fn launch(cuda: &mut Cuda, op: &QuantizeRows) -> Result<(), Error> {
    if op.centre.is_some() {
        return Err(Error::Form("centred activations"));
    }
    if op.rotated {
        return Err(Error::Form("rotation without SwiGLU"));
    }
    let args = QuantizeRowsArgs {
        x: cuda.matrix(&op.x)?,
        out: cuda.any_matrix(&op.out)?,
        out_scale: cuda.row(&op.out_scale)?,
        cols: word(op.out.cols),
        unused: 0,
    };
    cuda.run(&KERNEL, [op.out.rows, 1, 1], &args)
}
