use denoir_core::ops::ContextTokens;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
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

pub(crate) fn launch(on: &mut dyn Target, op: &ContextTokens) -> Result<(), Error> {
    let args = ContextTokensArgs {
        table: on.any_matrix(&op.table)?,
        position: on.matrix(&op.position)?,
        labels: on.row(&op.labels)?,
        out: on.matrix(&op.out)?,
        cols: word(op.out.cols),
        unused: 0,
    };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
