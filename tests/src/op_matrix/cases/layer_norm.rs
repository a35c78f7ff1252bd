use denoir_core::ops::{LayerNorm, Op};
use denoir_core::{DType, Region};

use super::common::ACTIVATIONS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in ACTIVATIONS {
        for hidden in [1, 3, 7, 8, 16, 17, 64, 100, 257, 1536] {
            for rows in [1, 5, 33] {
                table.add(format!("{dtype} {rows}×{hidden}"), move |d| case(d, dtype, rows, hidden));
            }
        }
    }
}

/// Every fifth row is zero, near 1e18 (the most that the contract takes), or too small for its squares; the others
/// have a mean.
fn case(mut d: Draw, dtype: DType, rows: usize, hidden: usize) -> Case {
    let first = d.rng.below(15);
    let x = d.matrix(Region::Arena, DType::F32, (rows, hidden), |rng, r, _| match (r + first) % 15 {
        0 => 0.0,
        5 => 1e17 * rng.normal(),
        10 => 1e-30 * rng.normal(),
        _ => 3.0 * rng.normal() + 1.0,
    });
    let out = d.output(dtype, rows, hidden);
    let out_scale = d.output_scale(&out);
    let close = Tolerance::close(2e-6, 1e-6, "f32 sums, then values near 1");
    let outputs = [(out, close.rounded_to(dtype))].into_iter().chain(out_scale.map(|s| (s, close.of_scale())));
    d.finish(Op::LayerNorm(LayerNorm { x, eps: 1e-6, out, out_scale }), outputs)
}
