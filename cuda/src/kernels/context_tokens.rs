use denoir_core::ops::ContextTokens;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::engine::Cuda;
use crate::launch::{LINE_THREADS, line};
use crate::modules::Kernel;

arguments! { ContextTokensArgs, 64, {
    table: AnyMatrix,
    position: Matrix,
    labels: u64,
    out: Matrix,
    cols: u32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<ContextTokensArgs>("context_tokens", LINE_THREADS);

pub(crate) fn launch(cuda: &mut Cuda, op: &ContextTokens) -> Result<(), Error> {
    let args = ContextTokensArgs {
        table: cuda.any_matrix(&op.table)?,
        position: cuda.matrix(&op.position)?,
        labels: cuda.row(&op.labels)?,
        out: cuda.matrix(&op.out)?,
        cols: word(op.out.cols),
        unused: 0,
    };
    cuda.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
