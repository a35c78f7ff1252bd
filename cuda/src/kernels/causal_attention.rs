use std::f32::consts::LOG2_E;

use denoir_core::ops::CausalAttention;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, arguments, word};
use crate::launch::Target;
use crate::modules::Kernel;

arguments! { CausalAttentionArgs, 96, {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    out: AnyMatrix,
    lengths: u64,
    tokens: u32,
    heads: u32,
    group: u32,
    head_dim: u32,
    scale: f32,
    unused: u32,
} }

/// Heads per block, one warp each.
const HEADS: usize = 4;

pub(crate) const KERNEL: Kernel = Kernel::of::<CausalAttentionArgs>("causal_attention", 32 * HEADS as u32);

pub(crate) fn launch(on: &mut dyn Target, op: &CausalAttention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let args = CausalAttentionArgs {
        q: on.matrix(&op.q)?,
        k: on.matrix(&op.k)?,
        v: on.matrix(&op.v)?,
        out: on.any_matrix(&op.out)?,
        lengths: on.row(&op.lengths)?,
        tokens: word(op.out.rows / op.lengths.cols),
        heads: word(op.heads),
        group: word(op.heads / op.kv_heads),
        head_dim: word(head_dim),
        scale: LOG2_E / (head_dim as f32).sqrt(),
        unused: 0,
    };
    on.run(&KERNEL, [op.out.rows, op.heads.div_ceil(HEADS), 1], &args)
}
