use denoir_core::ops::{BLOCK, BLOCK_BYTES, DequantizeBlocks, Op};
use denoir_core::{DType, Region};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for rows in [1, 2, 5, 17] {
        for blocks in [1, 2, 3, 40] {
            for region in [Region::Weights, Region::Arena] {
                let name = format!("{rows} rows of {blocks} blocks in {region:?}");
                table.add(name, move |d| case(d, region, rows, blocks));
            }
        }
    }
}

fn case(mut d: Draw, region: Region, rows: usize, blocks: usize) -> Case {
    // Scales of every finite size and sign: an f16 without the top bit of its exponent.
    let x = d.matrix(region, DType::I8, (rows, blocks * BLOCK_BYTES), |rng, _, c| {
        let byte = rng.bits() as i8;
        f64::from(if c % BLOCK_BYTES == 1 { byte & !0x40 } else { byte })
    });
    let out = d.output(DType::F32, rows, blocks * BLOCK);
    let exact = Tolerance::exact("11 bits times 8 bits fit f32");
    d.finish(Op::DequantizeBlocks(DequantizeBlocks { x, out }), [(out, exact)])
}
