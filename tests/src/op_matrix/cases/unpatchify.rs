use denoir_core::DType;
use denoir_core::ops::{Op, PixelOrder, Unpatchify};

use crate::op_matrix::draw::Draw;
use crate::op_matrix::{Case, Table, Tolerance};

pub(super) fn cases(table: &mut Table) {
    for order in [PixelOrder::ChannelLast, PixelOrder::ChannelFirst] {
        for channels in [1, 3, 4] {
            for (grid, patch) in [(1, 1), (1, 5), (2, 3), (3, 2), (3, 7), (2, 16), (5, 4)] {
                for images in 1..=3 {
                    let name = format!("{order:?} {images} images of {channels}×({grid}·{patch})²");
                    table.add(name, move |d| case(d, order, images, channels, (grid, patch)));
                }
            }
        }
    }
}

fn case(mut d: Draw, order: PixelOrder, images: usize, channels: usize, (grid, patch): (usize, usize)) -> Case {
    let (tokens, values) = (grid * grid, channels * patch * patch);
    let x = d.x(DType::F32, images * tokens, values);
    let out = d.output(DType::F32, images, tokens * values);
    let op = Unpatchify { x, grid, patch, order, out };
    d.finish(Op::Unpatchify(op), [(out, Tolerance::exact("a copy"))])
}
