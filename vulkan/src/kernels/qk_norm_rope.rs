use denoir_core::ops::QkNormRope;

use crate::Error;
use crate::engine::Vulkan;
use crate::launch::{Launch, word};
use crate::shader::Shader;

/// Heads of a workgroup.
const HEADS: usize = 4;

pub(crate) fn launch(vulkan: &mut Vulkan, op: &QkNormRope) -> Result<(), Error> {
    let mut l = Launch::new(vulkan, Shader::QkNormRope);
    let qkv = l.write(&op.qkv)?;
    let q_weight = l.read(&op.q_weight)?;
    let k_weight = l.read(&op.k_weight)?;
    let rope = l.read(&op.rope)?;
    #[rustfmt::skip]
    let args = [
        qkv.at, qkv.stride, q_weight.at, k_weight.at, rope.at, rope.stride, word(op.rope.rows),
        word(op.heads), word(op.q_weight.cols), word(op.rotated_rows),
        op.eps.to_bits(),
    ];
    l.run(&args, [(2 * op.heads).div_ceil(HEADS), op.qkv.rows, 1], 10 * op.qkv.rows * op.qkv.cols)
}
