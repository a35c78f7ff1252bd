use denoir_core::ops::ClassCondition;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
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

pub(crate) fn launch(on: &mut dyn Target, op: &ClassCondition) -> Result<(), Error> {
    let args = ClassConditionArgs {
        t_emb: on.matrix(&op.t_emb)?,
        table: on.any_matrix(&op.table)?,
        labels: on.row(&op.labels)?,
        out: on.matrix(&op.out)?,
        label_count: word(op.labels.cols),
        cols: word(op.out.cols),
    };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
