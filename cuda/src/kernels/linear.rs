use denoir_core::DType;
use denoir_core::ops::{Epilogue, Linear};

use crate::Error;
use crate::args::{AnyMatrix, Matrix, Tokens, arguments, word};
use crate::launch::Launcher;
use crate::modules::Kernel;

arguments! { LinearArgs, 160, {
    x: AnyMatrix,
    w: AnyMatrix,
    x_scale: u64,
    w_scale: u64,
    bias: u64,
    table: Matrix,
    table_rows: u64,
    gate: AnyMatrix,
    gate_scale: u64,
    gate_bias: u64,
    out: AnyMatrix,
    rows: u32,
    n: u32,
    k: u32,
    epilogue: u32,
    layout: Tokens,
    unused: u32,
} }

/// The tile of a block, and what blocks with it cost a multiprocessor, in a unit that all tiles share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    rows: usize,
    cols: usize,
    threads: u32,
    /// Slabs of 128 bytes per row in shared memory; 0 if the kernel fixes the size.
    stages: usize,
    /// Time of a block that has a multiprocessor for itself.
    first: usize,
    /// What every other block of the same multiprocessor adds: they run side by side.
    more: usize,
}

/// In the order of [`LinearTile::ALL`]. Costs are those of an H200: `benches/record/2026-11-28-h200.md`.
const TILES: [Tile; 4] = [
    Tile { rows: 128, cols: 128, threads: 128, stages: 3, first: 100, more: 62 },
    Tile { rows: 64, cols: 128, threads: 128, stages: 3, first: 75, more: 37 },
    Tile { rows: 96, cols: 64, threads: 128, stages: 4, first: 62, more: 33 },
    Tile { rows: 32, cols: 64, threads: 256, stages: 4, first: 45, more: 19 },
];
/// The index of the tile for rows that start anywhere.
const ANY: usize = 2;
/// The tile of f32 products, which have no other.
const WIDE: Tile = Tile { rows: 64, cols: 64, threads: 256, stages: 0, first: 0, more: 0 };

const fn kernel(name: &'static str, tile: Tile) -> Kernel {
    let shared = ((tile.rows + tile.cols) * 128 * tile.stages) as u32;
    Kernel { stem: "linear", name, threads: tile.threads, shared, args: size_of::<LinearArgs>() }
}

/// By type of the operands: a kernel for each tile, then one for unaligned rows.
const F16: [Kernel; 5] = [
    kernel("linear_f16_128x128", TILES[0]),
    kernel("linear_f16_64x128", TILES[1]),
    kernel("linear_f16_96x64", TILES[2]),
    kernel("linear_f16_32x64", TILES[3]),
    kernel("linear_f16_any", TILES[ANY]),
];
const BF16: [Kernel; 5] = [
    kernel("linear_bf16_128x128", TILES[0]),
    kernel("linear_bf16_64x128", TILES[1]),
    kernel("linear_bf16_96x64", TILES[2]),
    kernel("linear_bf16_32x64", TILES[3]),
    kernel("linear_bf16_any", TILES[ANY]),
];
const INT8: [Kernel; 5] = [
    kernel("linear_int8_128x128", TILES[0]),
    kernel("linear_int8_64x128", TILES[1]),
    kernel("linear_int8_96x64", TILES[2]),
    kernel("linear_int8_32x64", TILES[3]),
    kernel("linear_int8_any", TILES[ANY]),
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
    let (mut gate, mut gate_scale, mut gate_bias, mut cols) = (AnyMatrix::default(), 0, 0, n);
    match &op.epilogue {
        Epilogue::AddPeriodic(view) => table = on.matrix(view)?,
        Epilogue::GatedResidual { modulation, gate, layout: of } => {
            (table, table_rows) = on.modulation(modulation)?;
            table.at += 4 * *gate as u64;
            layout = Tokens::from(of);
        }
        Epilogue::Swiglu { gate: weight, bias } => {
            gate = on.any_matrix(&weight.data)?;
            (gate_scale, gate_bias) = (on.row_if(weight.scale.as_ref())?, on.row_if(bias.as_ref())?);
            cols = 2 * n;
        }
        Epilogue::Store | Epilogue::Silu | Epilogue::Residual => {}
    }
    let args = LinearArgs {
        x,
        w,
        x_scale: on.row_if(op.x_scale.as_ref())?,
        w_scale: on.row_if(op.w.scale.as_ref())?,
        bias: on.row_if(op.bias.as_ref())?,
        table,
        table_rows,
        gate,
        gate_scale,
        gate_bias,
        out: on.any_matrix(&op.out)?,
        rows: word(m),
        n: word(n),
        k: word(k),
        epilogue: epilogue(&op.epilogue),
        layout,
        unused: 0,
    };
    let size = op.x.dtype.size();
    let aligned =
        |matrix: AnyMatrix| matrix.at.is_multiple_of(16) && (matrix.stride as usize * size).is_multiple_of(16);
    let best = match aligned(x) && aligned(w) && aligned(gate) {
        true => on.tile.map_or_else(|| best_tile(m, cols, on.info().multiprocessors), |forced| forced as usize),
        false => TILES.len(),
    };
    let tile = *TILES.get(best).unwrap_or(&TILES[ANY]);
    let (kernel, tile) = match op.x.dtype {
        DType::F16 => (F16[best], tile),
        DType::BF16 => (BF16[best], tile),
        DType::I8 => (INT8[best], tile),
        DType::F32 | DType::U32 => (F32, WIDE),
    };
    on.run(&kernel, [m.div_ceil(tile.rows), cols.div_ceil(tile.cols), 1], &args)
}

/// Chooses the tile with which the busiest multiprocessor takes the least time.
fn best_tile(m: usize, n: usize, multiprocessors: usize) -> usize {
    let time = |tile: &Tile| {
        let blocks = m.div_ceil(tile.rows) * n.div_ceil(tile.cols);
        tile.first + tile.more * (blocks.div_ceil(multiprocessors.max(1)) - 1)
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
        Epilogue::Swiglu { .. } => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of multiprocessors of Orin and of a large card.
    const ORIN: usize = 16;
    const LARGE: usize = 132;

    /// The rows and columns that are chosen.
    fn chosen(m: usize, n: usize, multiprocessors: usize) -> (usize, usize) {
        let tile = TILES[best_tile(m, n, multiprocessors)];
        (tile.rows, tile.cols)
    }

    #[test]
    fn few_outputs_are_spread_over_the_device() {
        // proj of JiT-B/16 and of PixelGen-XL's guided pair.
        assert_eq!(chosen(288, 768, LARGE), (32, 64));
        assert_eq!(chosen(576, 1152, LARGE), (96, 64));
    }

    #[test]
    fn many_outputs_get_tiles_that_read_less() {
        // w12 of PixelGen-XXL, and of XL's guided pair.
        assert_eq!([(2048, 12288), (576, 6144)].map(|(m, n)| chosen(m, n, LARGE)), [(128, 128); 2]);
        assert_eq!([(576, 3456), (576, 1152)].map(|(m, n)| chosen(m, n, ORIN)), [(128, 128); 2]);
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
