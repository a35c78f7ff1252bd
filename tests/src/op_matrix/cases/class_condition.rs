use denoir_core::ops::{ClassCondition, Op};
use denoir_core::{DType, Region};

use super::common::FLOATS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in FLOATS {
        for hidden in [1, 3, 7, 8, 16, 17, 33, 100, 768] {
            for (times, labels) in [(1, 1), (1, 4), (3, 1), (5, 3)] {
                let name = format!("{dtype} {times} times {labels} labels × {hidden}");
                table.add(name, move |d| case(d, dtype, (times, labels), hidden));
            }
        }
    }
}

fn case(mut d: Draw, dtype: DType, (times, labels): (usize, usize), hidden: usize) -> Case {
    const CLASSES: usize = 7;
    let t_emb = d.matrix(Region::Arena, DType::F32, (times, hidden), |rng, _, _| 4.0 * rng.normal());
    let table = d.matrix(Region::Weights, dtype, (CLASSES, hidden), |rng, _, _| 4.0 * rng.normal());
    let labels = d.indices(labels, CLASSES);
    let out = d.output(DType::F32, times * labels.cols, hidden);
    let close = Tolerance::close(1e-6, 1e-6, "the sum is rounded before SiLU");
    d.finish(Op::ClassCondition(ClassCondition { t_emb, table, labels, out }), [(out, close)])
}
