use std::f32::consts::LOG2_E;

use denoir_core::ops::Attention;

use crate::Error;
use crate::args::{AnyMatrix, Matrix, Tokens, arguments, word};
use crate::launch::Launcher;
use crate::modules::Kernel;

arguments! { AttentionArgs, 96, {
    q: Matrix,
    k: Matrix,
    v: Matrix,
    out: AnyMatrix,
    queries: Tokens,
    keys: Tokens,
    head_dim: u32,
    scale: f32,
} }

/// Queries per block.
const QUERIES: usize = 64;

/// The kernels by maximum channels of a head, the shortest first.
pub(crate) const KERNELS: [(usize, Kernel); 5] = [
    kernel("attention_16", 16, 64),
    kernel("attention_64", 64, 64),
    kernel("attention_80", 80, 64),
    kernel("attention_112", 112, 32),
    kernel("attention_128", 128, 32),
];

/// Shared memory holds queries, keys and values as two 16-bit halves, in rows eight elements longer than a head.
const fn kernel(name: &'static str, width: usize, keys: usize) -> (usize, Kernel) {
    let shared = (2 * (QUERIES + 2 * keys) * (width + 8) * 2) as u32;
    (width, Kernel { stem: "attention", name, threads: 128, shared, args: size_of::<AttentionArgs>() })
}

pub(crate) fn launch(on: &mut Launcher, op: &Attention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let fits = KERNELS.iter().find(|(width, _)| *width >= head_dim);
    let limit = KERNELS[KERNELS.len() - 1].0 as u64;
    let (_, kernel) = fits.ok_or(Error::TooLarge { what: "an attention head", size: head_dim as u64, limit })?;
    let args = AttentionArgs {
        q: on.matrix(&op.q)?,
        k: on.matrix(&op.k)?,
        v: on.matrix(&op.v)?,
        out: on.any_matrix(&op.out)?,
        queries: Tokens::from(&op.queries),
        keys: Tokens::from(&op.keys),
        head_dim: word(head_dim),
        scale: LOG2_E / (head_dim as f32).sqrt(),
    };
    on.run(kernel, [op.queries.tokens().div_ceil(QUERIES), op.heads, op.queries.images], &args)
}
