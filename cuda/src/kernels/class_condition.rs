use denoir_core::ops::ClassCondition;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::engine::Cuda;
use crate::launch::{LINE_THREADS, line};
use crate::modules::Kernel;

arguments! { ClassConditionArgs, 64, {
    t_emb: Matrix,
    table: AnyMatrix,
    labels: u64,
    out: Matrix,
    label_count: u32,
    cols: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<ClassConditionArgs>("class_condition", LINE_THREADS);

pub(crate) fn launch(cuda: &mut Cuda, op: &ClassCondition) -> Result<(), Error> {
    let args = ClassConditionArgs {
        t_emb: cuda.matrix(&op.t_emb)?,
        table: cuda.any_matrix(&op.table)?,
        labels: cuda.row(&op.labels)?,
        out: cuda.matrix(&op.out)?,
        label_count: word(op.labels.cols),
        cols: word(op.out.cols),
    };
    cuda.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
