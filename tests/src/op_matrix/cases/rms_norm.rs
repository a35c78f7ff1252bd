use denoir_core::ops::{Op, RmsNorm};
use denoir_core::{DType, Region};

use super::common::ACTIVATIONS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in ACTIVATIONS {
        for hidden in [1, 3, 7, 16, 17, 64, 100, 257, 2048] {
            for (rows, period) in [(1, 0), (5, 0), (5, 1), (33, 7), (6, 6)] {
                let name = format!("{dtype} {rows}×{hidden} with {period} positions");
                table.add(name, move |d| case(d, dtype, (rows, hidden), period));
            }
        }
    }
}

/// Every fifth row is zero, near 1e18 (the most that the contract takes), or too small for its squares.
fn case(mut d: Draw, dtype: DType, (rows, hidden): (usize, usize), period: usize) -> Case {
    let first = d.rng.below(15);
    let x = d.matrix(Region::Arena, DType::F32, (rows, hidden), |rng, r, _| match (r + first) % 15 {
        0 => 0.0,
        5 => 1e17 * rng.normal(),
        10 => 1e-30 * rng.normal(),
        _ => 3.0 * rng.normal(),
    });
    let weight = d.vector(hidden, 1.0, 0.1);
    let position =
        (period > 0).then(|| d.matrix(Region::Weights, DType::F32, (period, hidden), |rng, _, _| rng.normal()));
    let out = d.output(dtype, rows, hidden);
    let out_scale = d.output_scale(&out);
    let close = Tolerance::close(1e-6, 1e-6, "f32 sum of squares, then values near 1");
    let outputs = [(out, close.rounded_to(dtype))].into_iter().chain(out_scale.map(|s| (s, close.of_scale())));
    d.finish(Op::RmsNorm(RmsNorm { x, weight, eps: 1e-6, position, out, out_scale }), outputs)
}
