use denoir_core::ops::CausalAttention;

use crate::Error;
use crate::launch::{Launch, Launcher, element_type, word};
use crate::shader::Shader;

pub(crate) fn launch(on: &mut Launcher, op: &CausalAttention) -> Result<(), Error> {
    let (head_dim, tokens) = (op.head_dim(), op.out.rows / op.lengths.cols);
    let mut l = Launch::new(on, Shader::CausalAttention);
    l.constant(1, element_type(op.out.dtype));
    l.constant(2, word(head_dim));
    let q = l.read(&op.q)?;
    let k = l.read(&op.k)?;
    let v = l.read(&op.v)?;
    let lengths = l.read(&op.lengths)?;
    let out = l.write(&op.out)?;
    #[rustfmt::skip]
    let args = [
        q.at, q.stride, k.at, k.stride, v.at, v.stride, lengths.at, out.at, out.stride,
        word(tokens), word(op.heads / op.kv_heads), (1.0 / (head_dim as f32).sqrt()).to_bits(),
    ];
    l.run(&args, [op.heads, op.out.rows, 1], 2 * op.out.rows * tokens * op.out.cols)
}
