use denoir_core::ops::NormModulate;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, Tokens, arguments, word};
use crate::launch::{NORMED_COLUMNS, ROW_THREADS, Target, rows};
use crate::modules::Kernel;

arguments! { NormModulateArgs, 104, {
    x: Matrix,
    weight: u64,
    table: Matrix,
    table_rows: u64,
    out: AnyMatrix,
    out_scale: u64,
    cols: u32,
    shift: u32,
    scale: u32,
    layout: Tokens,
    eps: f32,
    unused: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<NormModulateArgs>("norm_modulate", ROW_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &NormModulate) -> Result<(), Error> {
    let (table, table_rows) = on.modulation(&op.modulation)?;
    let args = NormModulateArgs {
        x: on.matrix(&op.x)?,
        weight: on.row(&op.weight)?,
        table,
        table_rows,
        out: on.any_matrix(&op.out)?,
        out_scale: on.row_if(op.out_scale.as_ref())?,
        cols: word(op.out.cols),
        shift: word(op.shift),
        scale: word(op.scale),
        layout: Tokens::from(&op.layout),
        eps: op.eps,
        unused: 0,
    };
    on.run(&KERNEL, rows(op.out.rows, op.out.cols, NORMED_COLUMNS)?, &args)
}
