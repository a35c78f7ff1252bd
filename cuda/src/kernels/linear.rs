use denoir_core::DType;
use denoir_core::ops::{Epilogue, Linear};

use crate::Error;
use crate::args::{AnyMatrix, Matrix, Tokens, arguments, word};
use crate::launch::Launcher;
use crate::modules::Kernel;

arguments! { LinearArgs, 120, {
    x: AnyMatrix,
    w: AnyMatrix,
    x_scale: u64,
    w_scale: u64,
    bias: u64,
    table: Matrix,
    table_rows: u64,
    out: Matrix,
    n: u32,
    k: u32,
    epilogue: u32,
    layout: Tokens,
} }

/// The tile of a block, and the device's estimated cost for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    rows: usize,
    cols: usize,
    threads: u32,
    /// Slabs of 64 bytes per row in shared memory; 0 if the kernel fixes the size.
    stages: usize,
    /// Blocks resident on a multiprocessor at once, limited by shared memory on the smallest device.
    resident: usize,
    /// Estimated time per output relative to the largest tile, in percent: small tiles read operands more often.
    percent: usize,
}

/// In the order of [`LinearTile::ALL`].
const TILES: [Tile; 3] = [
    Tile { rows: 128, cols: 128, threads: 256, stages: 4, resident: 1, percent: 100 },
    Tile { rows: 64, cols: 128, threads: 128, stages: 4, resident: 2, percent: 115 },
    Tile { rows: 64, cols: 64, threads: 128, stages: 4, resident: 3, percent: 140 },
];
/// The tile of f32 products.
const WIDE: Tile = Tile { rows: 64, cols: 64, threads: 256, stages: 0, resident: 2, percent: 100 };

const fn kernel(name: &'static str, tile: Tile) -> Kernel {
    let shared = ((tile.rows + tile.cols) * 64 * tile.stages) as u32;
    Kernel { stem: "linear", name, threads: tile.threads, shared, args: size_of::<LinearArgs>() }
}

/// By type of the operands: a kernel for each tile, then one with the smallest tile for unaligned rows.
const F16: [Kernel; 4] = [
    kernel("linear_f16_128x128", TILES[0]),
    kernel("linear_f16_64x128", TILES[1]),
    kernel("linear_f16_64x64", TILES[2]),
    kernel("linear_f16_any", TILES[2]),
];
const BF16: [Kernel; 4] = [
    kernel("linear_bf16_128x128", TILES[0]),
    kernel("linear_bf16_64x128", TILES[1]),
    kernel("linear_bf16_64x64", TILES[2]),
    kernel("linear_bf16_any", TILES[2]),
];
const INT8: [Kernel; 4] = [
    kernel("linear_int8_128x128", TILES[0]),
    kernel("linear_int8_64x128", TILES[1]),
    kernel("linear_int8_64x64", TILES[2]),
    kernel("linear_int8_any", TILES[2]),
];
/// f32 activations, weights of any float type.
const F32: Kernel = kernel("linear_f32", WIDE);

/// Every kernel of the file.
#[cfg(test)]
pub(crate) fn kernels() -> impl Iterator<Item = Kernel> {
    F16.into_iter().chain(BF16).chain(INT8).chain([F32])
}

pub(crate) fn launch(on: &mut Launcher, op: &Linear) -> Result<(), Error> {
    let (m, n, k) = (op.x.rows, op.out.cols, op.x.cols);
    let (x, w) = (on.any_matrix(&op.x)?, on.any_matrix(&op.w.data)?);
    let (mut table, mut table_rows, mut layout) = (Matrix::default(), 0, Tokens::default());
    match &op.epilogue {
        Epilogue::AddPeriodic(view) => table = on.matrix(view)?,
        Epilogue::GatedResidual { modulation, gate, layout: of } => {
            (table, table_rows) = on.modulation(modulation)?;
            table.at += 4 * *gate as u64;
            layout = Tokens::from(of);
        }
        Epilogue::Store | Epilogue::Silu | Epilogue::Swiglu { .. } | Epilogue::Residual => {}
    }
    let args = LinearArgs {
        x,
        w,
        x_scale: on.row_if(op.x_scale.as_ref())?,
        w_scale: on.row_if(op.w.scale.as_ref())?,
        bias: on.row_if(op.bias.as_ref())?,
        table,
        table_rows,
        out: on.matrix(&op.out)?,
        n: word(n),
        k: word(k),
        epilogue: epilogue(&op.epilogue),
        layout,
    };
    let size = op.x.dtype.size();
    let aligned =
        |matrix: AnyMatrix| matrix.at.is_multiple_of(16) && (matrix.stride as usize * size).is_multiple_of(16);
    let best = match aligned(x) && aligned(w) {
        true => on.tile.map_or_else(|| best_tile(m, n, on.info().multiprocessors), |forced| forced as usize),
        false => TILES.len(),
    };
    let (kernel, tile) = match op.x.dtype {
        DType::F16 => (F16[best], TILES[best.min(2)]),
        DType::BF16 => (BF16[best], TILES[best.min(2)]),
        DType::I8 => (INT8[best], TILES[best.min(2)]),
        DType::F32 | DType::U32 => (F32, WIDE),
    };
    on.run(&kernel, [n.div_ceil(tile.cols), m.div_ceil(tile.rows), 1], &args)
}

/// Chooses the tile whose waves of blocks take the least time.
fn best_tile(m: usize, n: usize, multiprocessors: usize) -> usize {
    let time = |tile: &Tile| {
        let blocks = m.div_ceil(tile.rows) * n.div_ceil(tile.cols);
        let rounds = blocks.div_ceil(multiprocessors.max(1) * tile.resident);
        rounds * tile.resident * tile.rows * tile.cols * tile.percent
    };
    (0..TILES.len()).min_by_key(|&i| time(&TILES[i])).unwrap_or(0)
}

/// The kernels' number for the epilogue.
fn epilogue(of: &Epilogue) -> u32 {
    match of {
        Epilogue::Store => 0,
        Epilogue::Silu => 1,
        Epilogue::AddPeriodic(_) => 2,
        Epilogue::GatedResidual { .. } => 3,
        Epilogue::Residual => 4,
        Epilogue::Swiglu { .. } => unreachable!("core refuses what the device's precision excludes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of multiprocessors of Orin and of a large card.
    const DEVICES: [usize; 2] = [16, 132];

    #[test]
    fn a_large_device_gets_small_tiles_and_a_small_one_large_tiles() {
        // PixelGen-XL's qkv with a guided batch.
        assert_eq!(DEVICES.map(|count| TILES[best_tile(576, 3456, count)].rows), [128, 64]);
    }

    #[test]
    fn blocks_cover_every_output_once() {
        for tile in TILES {
            for (m, n) in (1..=300usize).flat_map(|m| (1..=300usize).map(move |n| (m, n))) {
                let (rows, cols) = (m.div_ceil(tile.rows), n.div_ceil(tile.cols));
                assert!(rows * tile.rows >= m && (rows - 1) * tile.rows < m, "{m} rows");
                assert!(cols * tile.cols >= n && (cols - 1) * tile.cols < n, "{n} columns");
            }
        }
    }
}
