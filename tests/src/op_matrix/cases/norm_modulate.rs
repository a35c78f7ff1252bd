use denoir_core::TokenLayout;
use denoir_core::ops::{NormModulate, Op};

use super::common::{ACTIVATIONS, shared_mean_outputs};
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};
use denoir_core::DType;

pub(super) fn cases(table: &mut Table) {
    for dtype in ACTIVATIONS {
        for hidden in [1, 3, 7, 16, 17, 64, 100, 257, 1152] {
            for (images, image_tokens, context_tokens) in [(1, 1, 0), (1, 5, 0), (2, 3, 2), (3, 17, 4)] {
                let layout = TokenLayout { images, image_tokens, context_tokens };
                let name = format!("{dtype} {images}×({image_tokens}+{context_tokens})×{hidden}");
                table.add(name, move |d| case(d, dtype, layout, hidden, false));
            }
        }
    }
    centred(table);
}

/// Few and small: where a mean is next to a tie, all rows differ, so that no case should meet one.
fn centred(table: &mut Table) {
    for hidden in [1, 7, 16, 33] {
        for (images, image_tokens, context_tokens) in [(1, 5, 0), (2, 65, 2)] {
            let layout = TokenLayout { images, image_tokens, context_tokens };
            let name = format!("centred {images}×({image_tokens}+{context_tokens})×{hidden}");
            table.add(name, move |d| case(d, DType::I8, layout, hidden, true));
        }
    }
}

/// Every fifth row is zero, near 1e18 (the most that the contract takes), or too small for its squares.
fn case(mut d: Draw, dtype: DType, layout: TokenLayout, hidden: usize, centred: bool) -> Case {
    let rows = layout.rows();
    let special = d.rng.below(5);
    let size = move |r: usize| match (r + special) % 15 {
        0 => 0.0,
        5 => 1e17,
        10 => 1e-30,
        _ => 3.0,
    };
    let x = d.matrix(denoir_core::Region::Arena, DType::F32, (rows, hidden), |rng, r, _| size(r) * rng.normal());
    let weight = d.vector(hidden, 1.0, 0.1);
    let (modulation, first) = d.modulation(layout.images, 2 * hidden + 3);
    let (shift, scale) = if d.rng.below(2) == 0 { (first, first + hidden + 3) } else { (first + hidden, first) };
    let out = d.output(dtype, rows, hidden);
    let out_scale = d.output_scale(&out);
    let shared_mean = centred.then(|| d.shared_mean(layout, hidden));
    let op = NormModulate { x, weight, eps: 1e-6, modulation, shift, scale, layout, out, out_scale, shared_mean };
    let close = Tolerance::close(1e-6, 1e-6, "f32 sum of squares, then values near 1");
    let outputs = [(out, close.rounded_to(dtype))].into_iter().chain(out_scale.map(|s| (s, close.of_scale())));
    let rounded = close.rounded_to(DType::I8);
    let shared_mean = shared_mean.into_iter().flat_map(|shared_mean| shared_mean_outputs(&shared_mean, close, rounded));
    d.finish(Op::NormModulate(op), outputs.chain(shared_mean))
}
