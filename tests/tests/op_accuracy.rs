//! How well the kernels' own e^x does: SiLU and softmax over the whole of its range, unlike the op matrix relative to
//! each result.

use denoir_core::ops::{Attention, Epilogue, Linear, Memory, Op};
use denoir_core::{DType, Region, TokenLayout, View, Weight};
use denoir_tests::op_matrix::draw::Draw;
use denoir_tests::op_matrix::{Case, Tolerance, backends};

/// Arguments from -100 to 100.
const ARGUMENTS: usize = 20_001;

fn argument(i: usize) -> f64 {
    (i as f64 - (ARGUMENTS / 2) as f64) / 100.0
}

/// CUDA's tensor cores take the weights of attention as pairs of f16 numbers. Those are good to 2^-24 of the largest
/// weight, 1, not of each.
fn is_fixed_point(row: &str, op: &Op) -> bool {
    row.contains("cuda") && matches!(op, Op::Attention(_))
}

/// The largest relative error in units of 2^-23 of results above 1e-36, which others differ from by less than that.
fn worst(case: &Case, out: &View) {
    let mut want = case.reference().expect("valid");
    let want = Memory { weights: &[], arena: &mut want };
    for (row, run) in backends::rows().iter().filter_map(|row| Some((row, row.runs(case.op.name())?))) {
        let mut got = run(case).expect("runs");
        let got = Memory { weights: &[], arena: &mut got };
        let fixed_point = is_fixed_point(&row.name, &case.op);
        let (mut worst, mut at) = (0f64, 0.0);
        for r in 0..out.rows {
            for c in 0..out.cols {
                let (got, want) = (got.load(out, r, c), want.load(out, r, c));
                let unit = if fixed_point { 1.0 } else { want.abs().max(1e-36) };
                let error = (got - want).abs() / unit;
                assert!(!error.is_nan() && (want.abs() > 1e-36 || error < 1.0), "{}: {got:e}, not {want:e}", row.name);
                if want.abs() > 1e-36 && error > worst {
                    (worst, at) = (error, argument(r));
                }
            }
        }
        let units = worst * f64::from(1u32 << 23);
        println!("{} on {}: {units:.2} units in the last place at {at}", case.op.name(), row.name);
        assert!(units < 4.0, "{}: {units:.2} units in the last place at {at}", row.name);
    }
}

#[test]
fn silu_is_good_to_four_units_in_the_last_place() {
    let mut d = Draw::new(0);
    let x = d.matrix(Region::Arena, DType::F32, (ARGUMENTS, 1), |_, r, _| argument(r));
    let w = Weight { data: d.matrix(Region::Weights, DType::F32, (1, 1), |_, _, _| 1.0), scale: None, residual: None };
    let out = d.output(DType::F32, ARGUMENTS, 1);
    let op = Op::Linear(Linear { x, x_scale: None, shared_mean: None, w, bias: None, out, epilogue: Epilogue::Silu });
    worst(&d.finish(op, [(out, Tolerance::exact("compared here"))]), &out);
}

/// Two keys with scores s and 0, whose values are unit vectors: out is the two weights.
#[test]
fn softmax_is_good_to_four_units_in_the_last_place() {
    let mut d = Draw::new(0);
    // √head_dim is 2, and both products are exact.
    let q = d.matrix(Region::Arena, DType::F32, (ARGUMENTS, 4), |_, r, c| if c == 0 { 2.0 * argument(r) } else { 0.0 });
    let k = d.matrix(Region::Arena, DType::F32, (2, 4), |_, r, c| if (r, c) == (0, 0) { 1.0 } else { 0.0 });
    let v = d.matrix(Region::Arena, DType::F32, (2, 4), |_, r, c| if r == c { 1.0 } else { 0.0 });
    let tokens = |image_tokens| TokenLayout { images: 1, image_tokens, context_tokens: 0 };
    let out = d.output(DType::F32, ARGUMENTS, 4);
    let (queries, keys, products) = (tokens(ARGUMENTS), tokens(2), DType::F32);
    let op = Op::Attention(Attention { q, k, v, heads: 1, queries, keys, products, out });
    worst(&d.finish(op, [(out, Tolerance::exact("compared here"))]), &out);
}
