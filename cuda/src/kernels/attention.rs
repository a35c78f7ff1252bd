use std::f32::consts::LOG2_E;

use denoir_core::ops::Attention;

use crate::Error;
use crate::args::{AnyMatrix, Tokens, arguments, word};
use crate::launch::Target;
use crate::modules::Kernel;

arguments! { AttentionArgs, 96, {
    q: AnyMatrix,
    k: AnyMatrix,
    v: AnyMatrix,
    out: AnyMatrix,
    queries: Tokens,
    keys: Tokens,
    head_dim: u32,
    scale: f32,
} }

/// Queries per block.
const QUERIES: usize = 64;

/// The kernels by maximum channels of a head, the shortest first: for factors in bf16, and exact ones.
pub(crate) const KERNELS: [(usize, [Kernel; 2]); 5] = [
    (16, [rounded("attention_16", 16, 64), exact("attention_exact_16", 16, 32)]),
    (64, [rounded("attention_64", 64, 64), exact("attention_exact_64", 64, 64)]),
    (80, [rounded("attention_80", 80, 64), exact("attention_exact_80", 80, 64)]),
    (112, [rounded("attention_112", 112, 64), exact("attention_exact_112", 112, 32)]),
    (128, [rounded("attention_128", 128, 64), exact("attention_exact_128", 128, 32)]),
];

/// Shared memory holds two tiles of keys and two of values in bf16, in rows eight elements longer than a head.
const fn rounded(name: &'static str, width: usize, keys: usize) -> Kernel {
    kernel(name, 2 * keys * 2 * 2 * (width + 8))
}

/// Shared memory holds a tile of keys and one of values, as f32 and in two parts of 16 bits.
const fn exact(name: &'static str, width: usize, keys: usize) -> Kernel {
    kernel(name, 2 * keys * (4 * width + 2 * 2 * (width + 8)))
}

const fn kernel(name: &'static str, shared: usize) -> Kernel {
    Kernel { stem: "attention", name, threads: 256, shared: shared as u32, args: size_of::<AttentionArgs>() }
}

pub(crate) fn launch(on: &mut dyn Target, op: &Attention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let fits = KERNELS.iter().find(|(width, _)| *width >= head_dim);
    let limit = KERNELS[KERNELS.len() - 1].0 as u64;
    let (_, [rounded, exact]) =
        fits.ok_or(Error::TooLarge { what: "an attention head", size: head_dim as u64, limit })?;
    let kernel = if op.is_rounded() { rounded } else { exact };
    let args = AttentionArgs {
        q: on.any_matrix(&op.q)?,
        k: on.any_matrix(&op.k)?,
        v: on.any_matrix(&op.v)?,
        out: on.any_matrix(&op.out)?,
        queries: Tokens::from(&op.queries),
        keys: Tokens::from(&op.keys),
        head_dim: word(head_dim),
        scale: LOG2_E / (head_dim as f32).sqrt(),
    };
    on.run(kernel, [op.queries.tokens().div_ceil(QUERIES), op.heads, op.queries.images], &args)
}
