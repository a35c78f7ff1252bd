use denoir_core::ops::{ContextTokens, Op};
use denoir_core::{DType, Region};

use super::common::FLOATS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in FLOATS {
        for hidden in [1, 3, 7, 8, 16, 17, 33, 100, 768] {
            for (images, count) in [(1, 1), (1, 4), (3, 1), (2, 5)] {
                let name = format!("{dtype} {images} images {count} tokens × {hidden}");
                table.add(name, move |d| case(d, dtype, (images, count), hidden));
            }
        }
    }
}

fn case(mut d: Draw, dtype: DType, (images, count): (usize, usize), hidden: usize) -> Case {
    const CLASSES: usize = 7;
    let table = d.matrix(Region::Weights, dtype, (CLASSES, hidden), |rng, _, _| rng.normal());
    let position = d.matrix(Region::Weights, DType::F32, (count, hidden), |rng, _, _| rng.normal());
    let labels = d.indices(images, CLASSES);
    let out = d.output(DType::F32, images * count, hidden);
    let exact = Tolerance::exact("one f32 addition");
    d.finish(Op::ContextTokens(ContextTokens { table, position, labels, out }), [(out, exact)])
}
