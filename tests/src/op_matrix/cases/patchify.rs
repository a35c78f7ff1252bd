use denoir_core::ops::{Op, Patchify};
use denoir_core::{DType, Region};

use super::common::FLOATS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in FLOATS {
        for channels in [1, 3, 4] {
            for (grid, patch) in [(1, 1), (1, 5), (2, 3), (3, 2), (3, 7), (2, 16), (5, 4)] {
                for (sources, images) in [(1, 1), (1, 2), (2, 4), (3, 3)] {
                    let name = format!("{dtype} {sources} to {images} images of {channels}×({grid}·{patch})²");
                    table.add(name, move |d| case(d, dtype, (sources, images), channels, (grid, patch)));
                }
            }
        }
    }
}

fn case(
    mut d: Draw,
    dtype: DType,
    (sources, images): (usize, usize),
    channels: usize,
    (grid, patch): (usize, usize),
) -> Case {
    let (tokens, values) = (grid * grid, channels * patch * patch);
    let image = d.matrix(Region::Arena, DType::F32, (sources, tokens * values), |rng, _, _| rng.normal());
    let out = d.output(dtype, images * tokens, values);
    let exact = Tolerance::exact("a copy, rounded once");
    d.finish(Op::Patchify(Patchify { image, grid, patch, out }), [(out, exact)])
}
