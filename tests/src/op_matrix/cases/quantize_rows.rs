use denoir_core::ops::{Op, QuantizeRows};
use denoir_core::{DType, Region, TokenLayout};

use super::common::shared_mean_outputs;

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for rows in [1, 2, 5, 17, 33] {
        for cols in [1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 213, 341, 1152] {
            table.add(format!("{rows}×{cols}"), move |d| case(d, rows, cols));
        }
    }
    for cols in [1, 15, 16, 33, 100, 341, 1152] {
        table.add(format!("rotated 5×{cols}"), move |d| eighths(d, DType::F32, 5, cols, true));
        table.add(format!("rotated bf16 5×{cols}"), move |d| eighths(d, DType::BF16, 5, cols, true));
        table.add(format!("bf16 5×{cols}"), move |d| eighths(d, DType::BF16, 5, cols, false));
    }
    for cols in [1, 7, 16, 33, 100, 1152] {
        for (images, image_tokens, context_tokens) in [(1, 1, 0), (2, 3, 2), (1, 32, 5), (2, 65, 0), (1, 256, 32)] {
            let layout = TokenLayout { images, image_tokens, context_tokens };
            let name = format!("centred {images}×({image_tokens}+{context_tokens})×{cols}");
            table.add(name, move |d| centred(d, layout, cols));
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
    d.finish(
        Op::QuantizeRows(QuantizeRows { x, out, out_scale, shared_mean: None, rotated: false }),
        [(out, exact), (out_scale, exact)],
    )
}

/// Multiples of 1/64 with much in common, whose sums are exact in any order.
fn centred(mut d: Draw, layout: TokenLayout, cols: usize) -> Case {
    let common: Vec<f64> = (0..cols).map(|_| d.rng.below(512) as f64 / 64.0 - 4.0).collect();
    let x = d.matrix(Region::Arena, DType::F32, (layout.rows(), cols), |rng, _, c| {
        common[c] + rng.below(129) as f64 / 64.0 - 1.0
    });
    let out = d.output(DType::I8, layout.rows(), cols);
    let out_scale = d.output(DType::F32, 1, layout.rows());
    let shared_mean = d.shared_mean(layout, cols);
    let exact = Tolerance::exact("the contract gives every operation");
    let op = QuantizeRows { x, out, out_scale, shared_mean: Some(shared_mean), rotated: false };
    d.finish(
        Op::QuantizeRows(op),
        [(out, exact), (out_scale, exact)].into_iter().chain(shared_mean_outputs(&shared_mean, exact, exact)),
    )
}

/// Multiples of 1/8, which all types hold and whose rotation is exact.
fn eighths(mut d: Draw, dtype: DType, rows: usize, cols: usize, rotated: bool) -> Case {
    let x = d.matrix(Region::Arena, dtype, (rows, cols), |rng, _, _| rng.below(129) as f64 / 8.0 - 8.0);
    let out = d.output(DType::I8, rows, cols);
    let out_scale = d.output(DType::F32, 1, rows);
    let exact = Tolerance::exact("the contract gives every operation");
    let op = QuantizeRows { x, out, out_scale, shared_mean: None, rotated };
    let case = d.finish(Op::QuantizeRows(op), [(out, exact), (out_scale, exact)]);
    Case { scratch: rotated.then_some(x), ..case }
}
