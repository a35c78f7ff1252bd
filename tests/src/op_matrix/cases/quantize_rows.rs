use denoir_core::ops::{Op, QuantizeRows};
use denoir_core::{DType, Region};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for rows in [1, 2, 5, 17, 33] {
        for cols in [1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 213, 341, 1152] {
            table.add(format!("{rows}×{cols}"), move |d| case(d, rows, cols));
        }
    }
}

/// Rows of every size that f32 has, rows of ties, and a row of zeros.
fn case(mut d: Draw, rows: usize, cols: usize) -> Case {
    const SIZES: [f64; 8] = [1.0, 0.0, 1e30, 1e-30, 3e38, 1e-38, 1e-44, 40.0];
    let first = d.rng.below(SIZES.len());
    let x = d.matrix(Region::Arena, DType::F32, (rows, cols), |rng, r, c| match (r + first) % 9 {
        // 127 and halves: products with 127/127 that lie between two integers.
        8 => {
            if c == 0 {
                -127.0
            } else {
                rng.below(253) as f64 - 126.5
            }
        }
        i => SIZES[i] * (2.0 * rng.unit() - 1.0),
    });
    let out = d.output(DType::I8, rows, cols);
    let out_scale = d.output(DType::F32, 1, rows);
    let exact = Tolerance::exact("the contract gives every operation");
    d.finish(Op::QuantizeRows(QuantizeRows { x, out, out_scale }), [(out, exact), (out_scale, exact)])
}
