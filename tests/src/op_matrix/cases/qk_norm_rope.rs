use denoir_core::ops::{Op, QkNormRope, Rope, RopePairs};
use denoir_core::{DType, Region, View};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    let mut i = 0;
    for head_dim in [4, 16, 64, 72, 80, 104, 128] {
        for (heads, kv_heads) in [(1, 1), (2, 2), (4, 2), (0, 3)] {
            for (rows, rotated) in [(1, 0), (1, 1), (5, 0), (5, 3), (5, 5), (33, 32)] {
                let pairs = [Some(RopePairs::Adjacent), Some(RopePairs::Halves), None][i % 3];
                let name = format!("{heads}:{kv_heads}×{head_dim} {rotated} of {rows} rows {pairs:?}");
                table.add(name, move |d| case(d, (heads, kv_heads, head_dim), rows, rotated, pairs, None));
                i += 1;
            }
            i += 1;
        }
    }
    for (i, head_dim) in [4, 64, 72, 104, 128].into_iter().enumerate() {
        for (heads, kv_heads) in [(1, 1), (4, 2), (0, 3)] {
            for (rows, rotated) in [(1, 1), (5, 3), (33, 0)] {
                let pairs = [Some(RopePairs::Adjacent), Some(RopePairs::Halves), None][(i + rows) % 3];
                let name = format!("{heads}:{kv_heads}×{head_dim} {rotated} of {rows} rows {pairs:?} to bf16");
                let out = Some(DType::BF16);
                table.add(name, move |d| case(d, (heads, kv_heads, head_dim), rows, rotated, pairs, out));
            }
        }
    }
}

fn case(
    mut d: Draw,
    (heads, kv_heads, head_dim): (usize, usize, usize),
    rows: usize,
    rotated: usize,
    pairs: Option<RopePairs>,
    out: Option<DType>,
) -> Case {
    let changed = (heads + kv_heads) * head_dim;
    let first = d.rng.below(7);
    let qkv = d.matrix(Region::Arena, DType::F32, (rows, changed + kv_heads * head_dim), |rng, r, _| {
        rng.normal() * [1.0, 0.0, 1e-30, 1e15, 3.0, 1e-3, 1.0][(r + first) % 7]
    });
    let (q_weight, k_weight) = (d.vector(head_dim, 1.0, 0.1), d.vector(head_dim, 1.0, 0.1));
    let rope = pairs.map(|pairs| Rope { table: angles(&mut d, rows, head_dim), rows: rotated, pairs });
    let out = out.map(|dtype| d.output(dtype, rows, qkv.cols));
    let op = QkNormRope { qkv, out, q_weight, k_weight, eps: 1e-6, heads, kv_heads, rope };
    let close = Tolerance::close(1e-6, 1e-6, "f32 sum of squares, then values near 1");
    let output = out.map_or((qkv.cols_from(0, changed), close), |out| (out, close.rounded_to(out.dtype)));
    d.finish(Op::QkNormRope(op), [output])
}

/// Cosines and sines of up to `rows` rows.
fn angles(d: &mut Draw, rows: usize, head_dim: usize) -> View {
    let period = 1 + d.rng.below(rows);
    let mut angle = 0.0;
    d.matrix(Region::Arena, DType::F32, (period, head_dim), |rng, _, c| {
        if c % 2 == 0 {
            angle = 20.0 * rng.unit();
            f64::cos(angle)
        } else {
            f64::sin(angle)
        }
    })
}
