use denoir_core::ops::{Op, Swiglu};
use denoir_core::{DType, Region};

use super::common::ACTIVATIONS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in ACTIVATIONS {
        for rows in [1, 2, 5, 33] {
            for half in [1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 213, 341] {
                table.add(format!("{dtype} {rows}×{half}"), move |d| case(d, dtype, rows, half, false));
                table.add(format!("{dtype} {rows}×{half}, rotated"), move |d| case(d, dtype, rows, half, true));
            }
        }
    }
}

/// Sizes of both factors in rows that are rotated.
const ROTATED: [(f64, f64); 4] = [(3.0, 1.0), (0.0, 0.0), (1.0, 3.0), (3.0, 3.0)];

/// Rows where either factor is huge (as far as the output's type reaches), tiny or zero, and rows where SiLU
/// saturates on both sides.
///
/// A rotation mixes 16 values, so that only sizes far apart in different rows make sense there.
fn case(mut d: Draw, dtype: DType, rows: usize, half: usize, rotated: bool) -> Case {
    let huge = if dtype == DType::F16 { 1e3 } else { 1e30 };
    let sizes =
        [(3.0, 1.0), (0.0, 0.0), (huge, 1.0), (1.0, huge), (1e-30, 1.0), (3.0, 1e-30), (100.0, 1.0), (1.0, 3.0)];
    let sizes = if rotated { &ROTATED[..] } else { &sizes[..] };
    let first = d.rng.below(sizes.len());
    let x = d.matrix(Region::Arena, DType::F32, (rows, 2 * half), |rng, r, c| {
        let (a, b) = sizes[(r + first) % sizes.len()];
        match (if c < half { a } else { b }) * rng.normal() {
            // A row that is nothing but SiLU's underflow has no int8 value worth comparing.
            a if c < half && dtype == DType::I8 => a.max(-80.0),
            x => x,
        }
    });
    let out = d.output(dtype, rows, half);
    let out_scale = d.output_scale(&out);
    // Below -87, e^x leaves the range of f32 and SiLU is 0 to within 1e-36.
    let close = if rotated {
        Tolerance::close(3e-5, 1e-6, "sums of 16 values of up to 50 that may cancel out")
    } else {
        Tolerance::close(1e-35, 1e-6, "e^x is good to 2 units in the last place")
    };
    let outputs = [(out, close.rounded_to(dtype))].into_iter().chain(out_scale.map(|s| (s, close.of_scale())));
    let case = d.finish(Op::Swiglu(Swiglu { x, out, out_scale, rotated }), outputs);
    Case { scratch: Some(x.cols_from(0, half)), ..case }
}
