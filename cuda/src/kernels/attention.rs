use std::f32::consts::LOG2_E;

use denoir_core::DType;
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

/// The kernels by maximum channels of a head, the shortest first: with products of factors rounded to bf16, and exact ones.
pub(crate) const KERNELS: [(usize, [Kernel; 2]); 5] = [
    (16, [kernel("attention_16", 16, 32, 1), kernel("attention_exact_16", 16, 32, 2)]),
    (64, [kernel("attention_64", 64, 64, 1), kernel("attention_exact_64", 64, 64, 2)]),
    (80, [kernel("attention_80", 80, 64, 1), kernel("attention_exact_80", 80, 64, 2)]),
    (112, [kernel("attention_112", 112, 32, 1), kernel("attention_exact_112", 112, 32, 2)]),
    (128, [kernel("attention_128", 128, 32, 1), kernel("attention_exact_128", 128, 32, 2)]),
];

/// Shared memory holds a tile of keys and one of values, as f32 on their way and as `parts` 16-bit numbers, in rows eight
/// elements longer than a head.
const fn kernel(name: &'static str, width: usize, keys: usize, parts: usize) -> Kernel {
    let shared = (2 * keys * (4 * width + 2 * parts * (width + 8))) as u32;
    Kernel { stem: "attention", name, threads: 256, shared, args: size_of::<AttentionArgs>() }
}

pub(crate) fn launch(on: &mut Launcher, op: &Attention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let fits = KERNELS.iter().find(|(width, _)| *width >= head_dim);
    let limit = KERNELS[KERNELS.len() - 1].0 as u64;
    let (_, [rounded, exact]) =
        fits.ok_or(Error::TooLarge { what: "an attention head", size: head_dim as u64, limit })?;
    let kernel = if op.products == DType::F32 { exact } else { rounded };
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
