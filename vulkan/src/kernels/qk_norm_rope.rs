use denoir_core::ops::{QkNormRope, RopePairs};

use crate::Error;
use crate::launch::{Launch, Launcher, word};
use crate::shader::Shader;

/// Heads of a workgroup.
const HEADS: usize = 4;

pub(crate) fn launch(on: &mut Launcher, op: &QkNormRope) -> Result<(), Error> {
    let heads = op.heads + op.kv_heads;
    let mut l = Launch::new(on, Shader::QkNormRope);
    l.constant(1, u32::from(op.rope.is_some_and(|rope| rope.pairs == RopePairs::Halves)));
    let qkv = l.write(&op.qkv)?;
    let q_weight = l.read(&op.q_weight)?;
    let k_weight = l.read(&op.k_weight)?;
    let table = l.read_some(op.rope.as_ref().map(|rope| &rope.table))?;
    let (rope_rows, rotated_rows) = op.rope.map_or((0, 0), |rope| (rope.table.rows, rope.rows));
    #[rustfmt::skip]
    let args = [
        qkv.at, qkv.stride, q_weight.at, k_weight.at, table.at, table.stride, word(rope_rows),
        word(op.heads), word(op.kv_heads), word(op.q_weight.cols), word(rotated_rows),
        op.eps.to_bits(),
    ];
    l.run(&args, [heads.div_ceil(HEADS), op.qkv.rows, 1], 10 * op.qkv.rows * op.qkv.cols)
}
