use denoir_core::ops::{GatherRows, Op};
use denoir_core::{DType, Region};

use super::common::ACTIVATIONS;
use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for dtype in ACTIVATIONS {
        for cols in [1, 3, 7, 8, 16, 17, 33, 100, 340] {
            for (groups, count, picks) in [(1, 1, 1), (5, 1, 7), (3, 4, 2), (2, 3, 5)] {
                let name = format!("{dtype} {picks} of {groups} groups of {count} rows × {cols}");
                let out = if dtype == DType::I8 { DType::I8 } else { DType::F32 };
                table.add(name, move |d| case(d, (dtype, out), (groups, count, picks), cols));
            }
        }
    }
    for cols in [1, 33, 340] {
        let name = format!("bf16 as it is, 5 of 2 groups of 3 rows × {cols}");
        table.add(name, move |d| case(d, (DType::BF16, DType::BF16), (2, 3, 5), cols));
    }
}

fn case(mut d: Draw, (dtype, out): (DType, DType), (groups, count, picks): (usize, usize, usize), cols: usize) -> Case {
    let region = d.rng.pick(&[Region::Weights, Region::Arena]);
    let int8 = dtype == DType::I8;
    let x = if int8 {
        d.matrix(region, dtype, (groups * count, cols), |rng, _, _| f64::from(rng.bits() as i8))
    } else {
        d.matrix(region, dtype, (groups * count, cols), |rng, _, _| rng.normal())
    };
    let index = d.indices(picks, groups);
    let out = d.output(out, picks * count, cols);
    d.finish(Op::GatherRows(GatherRows { x, index, count, out }), [(out, Tolerance::exact("a copy"))])
}
