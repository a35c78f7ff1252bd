use denoir_core::ops::Patchify;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::{LINE_THREADS, Target, line};
use crate::modules::Kernel;

arguments! { PatchifyArgs, 48, {
    image: Matrix,
    out: AnyMatrix,
    rows: u32,
    cols: u32,
    grid: u32,
    patch: u32,
} }

pub(crate) const KERNEL: Kernel = Kernel::of::<PatchifyArgs>("patchify", LINE_THREADS);

pub(crate) fn launch(on: &mut dyn Target, op: &Patchify) -> Result<(), Error> {
    let args = PatchifyArgs {
        image: on.matrix(&op.image)?,
        out: on.any_matrix(&op.out)?,
        rows: word(op.out.rows),
        cols: word(op.out.cols),
        grid: word(op.grid),
        patch: word(op.patch),
    };
    on.run(&KERNEL, line(op.out.rows * op.out.cols)?, &args)
}
