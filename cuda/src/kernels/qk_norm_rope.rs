use denoir_core::ops::{QkNormRope, RopePairs};

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::Target;
use crate::modules::Kernel;

arguments! { QkNormRopeArgs, 88, {
    qkv: Matrix,
    out: AnyMatrix,
    q_weight: u64,
    k_weight: u64,
    rope: Matrix,
    rotated_rows: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    halves: u32,
    eps: f32,
} }

/// Heads per block, one warp each.
const HEADS: usize = 4;
/// Maximum channels of a head.
const MOST_CHANNELS: usize = 128;

pub(crate) const KERNEL: Kernel = Kernel::of::<QkNormRopeArgs>("qk_norm_rope", 32 * HEADS as u32);

pub(crate) fn launch(on: &mut dyn Target, op: &QkNormRope) -> Result<(), Error> {
    let head_dim = op.q_weight.cols;
    if head_dim > MOST_CHANNELS {
        let limit = MOST_CHANNELS as u64;
        return Err(Error::TooLarge { what: "an attention head", size: head_dim as u64, limit });
    }
    let args = QkNormRopeArgs {
        qkv: on.matrix(&op.qkv)?,
        out: op.out.map_or(Ok(AnyMatrix::default()), |out| on.any_matrix(&out))?,
        q_weight: on.row(&op.q_weight)?,
        k_weight: on.row(&op.k_weight)?,
        rope: op.rope.map_or(Ok(Matrix::default()), |rope| on.matrix(&rope.table))?,
        rotated_rows: word(op.rope.map_or(0, |rope| rope.rows)),
        heads: word(op.heads),
        kv_heads: word(op.kv_heads),
        head_dim: word(head_dim),
        halves: u32::from(op.rope.is_some_and(|rope| rope.pairs == RopePairs::Halves)),
        eps: op.eps,
    };
    // Values too, where they are written.
    let heads = op.heads + if op.out.is_some() { 2 * op.kv_heads } else { op.kv_heads };
    on.run(&KERNEL, [op.qkv.rows, heads.div_ceil(HEADS), 1], &args)
}
