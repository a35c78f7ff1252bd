use denoir_core::ops::{CausalAttention, Op};
use denoir_core::{DType, Region};

use super::common::FLOATS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    let mut i = 0;
    for head_dim in [4, 16, 64, 72, 80, 104, 128] {
        for (heads, kv_heads) in [(1, 1), (2, 1), (4, 2)] {
            for tokens in [1, 2, 5, 33, 70] {
                let (sequences, dtype, large) = (1 + i % 3, FLOATS[(i + i / 3) % 3], i % 2 == 1);
                let size = if large { "large" } else { "small" };
                let name = format!("{dtype} {heads}:{kv_heads}×{head_dim} {sequences}×{tokens} tokens {size}");
                table.add(name, move |d| case(d, dtype, (heads, kv_heads, head_dim), (sequences, tokens), large));
                i += 1;
            }
        }
    }
}

/// Sequences of every length from none to all tokens; the keys and values of padding are NaN.
fn case(
    mut d: Draw,
    dtype: DType,
    (heads, kv_heads, head_dim): (usize, usize, usize),
    (sequences, tokens): (usize, usize),
    large: bool,
) -> Case {
    let (rows, width, kv_width) = (sequences * tokens, heads * head_dim, kv_heads * head_dim);
    let qkv = d.place(Region::Arena, DType::F32, rows, width + 2 * kv_width);
    let q = qkv.cols_from(0, width);
    let (k, v) = (qkv.cols_from(width, kv_width), qkv.cols_from(width + kv_width, kv_width));
    let size = if large { 5.0 } else { 1.0 };
    d.fill(&q, |rng, _, _| size * rng.normal());
    d.fill(&k, |rng, _, _| size * rng.normal());
    d.fill(&v, |rng, _, _| rng.normal());
    let lengths: Vec<usize> = (0..sequences).map(|_| d.rng.below(tokens + 1)).collect();
    for (sequence, &length) in lengths.iter().enumerate().filter(|(_, length)| **length < tokens) {
        for view in [&k, &v] {
            d.poison(&view.rows_from(sequence * tokens + length, tokens - length));
        }
    }
    let lengths = d.matrix(Region::Arena, DType::U32, (1, sequences), |_, _, c| lengths[c] as f64);
    let out = d.output(dtype, rows, width);
    let close = if large {
        Tolerance::close(1e-4, 1e-6, "an f32 score of 100 is off by 1e-5 and more, its weight by that share")
    } else {
        Tolerance::close(2e-6, 1e-6, "f32 sums of values near 1")
    };
    let op = CausalAttention { q, k, v, heads, kv_heads, lengths, out };
    d.finish(Op::CausalAttention(op), [(out, close.rounded_to(dtype))])
}
