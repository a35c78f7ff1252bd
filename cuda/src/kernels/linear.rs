use denoir_core::DType;
use denoir_core::ops::{Epilogue, Linear};

use crate::args::{AnyMatrix, Matrix, Tokens, arguments, word};
use crate::cost::{Tile, linear_clocks, turn};
use crate::launch::Target;
use crate::modules::Kernel;
use crate::{DeviceInfo, Error};

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
    stages: u32,
} }

/// In the order of [`LinearTile::ALL`]; registers as in `modules/linear.txt`.
const TILES: [Tile; 5] = [
    Tile { rows: 128, cols: 128, warp: [64, 64], registers: 254 },
    Tile { rows: 96, cols: 192, warp: [48, 48], registers: 188 },
    Tile { rows: 96, cols: 128, warp: [48, 64], registers: 230 },
    Tile { rows: 96, cols: 64, warp: [48, 32], registers: 154 },
    Tile { rows: 48, cols: 64, warp: [48, 16], registers: 116 },
];
/// Numbers of slabs in shared memory: what the kernels take.
const STAGES: [usize; 3] = [4, 3, 2];
/// The index of the tile for rows that start anywhere, and its slabs.
const ANY: (usize, usize) = (3, 4);
/// Rows and columns of a block of f32 products, and its kernel: f32 activations, weights of any float type.
const WIDE: [usize; 2] = [64, 64];
const F32: Kernel =
    Kernel { stem: "linear", name: "linear_f32", threads: 256, shared: 0, args: size_of::<LinearArgs>() };

/// Without its slabs, whose number each launch says.
const fn kernel(name: &'static str, tile: Tile) -> Kernel {
    Kernel { stem: "linear", name, threads: tile.threads() as u32, shared: 0, args: size_of::<LinearArgs>() }
}

/// By type of the operands: a kernel for each tile, then one for unaligned rows.
const F16: [Kernel; 6] = [
    kernel("linear_f16_128x128", TILES[0]),
    kernel("linear_f16_96x192", TILES[1]),
    kernel("linear_f16_96x128", TILES[2]),
    kernel("linear_f16_96x64", TILES[3]),
    kernel("linear_f16_48x64", TILES[4]),
    kernel("linear_f16_any", TILES[ANY.0]),
];
const BF16: [Kernel; 6] = [
    kernel("linear_bf16_128x128", TILES[0]),
    kernel("linear_bf16_96x192", TILES[1]),
    kernel("linear_bf16_96x128", TILES[2]),
    kernel("linear_bf16_96x64", TILES[3]),
    kernel("linear_bf16_48x64", TILES[4]),
    kernel("linear_bf16_any", TILES[ANY.0]),
];
const INT8: [Kernel; 6] = [
    kernel("linear_int8_128x128", TILES[0]),
    kernel("linear_int8_96x192", TILES[1]),
    kernel("linear_int8_96x128", TILES[2]),
    kernel("linear_int8_96x64", TILES[3]),
    kernel("linear_int8_48x64", TILES[4]),
    kernel("linear_int8_any", TILES[ANY.0]),
];
/// Every kernel of the file.
#[cfg(test)]
pub(crate) fn kernels() -> impl Iterator<Item = Kernel> {
    F16.into_iter().chain(BF16).chain(INT8).chain([F32])
}

pub(crate) fn launch(on: &mut dyn Target, op: &Linear) -> Result<(), Error> {
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
    let size = op.x.dtype.size();
    let aligned =
        |matrix: AnyMatrix| matrix.at.is_multiple_of(16) && (matrix.stride as usize * size).is_multiple_of(16);
    let (best, stages) = match aligned(x) && aligned(w) && aligned(gate) {
        true => on.tile().map_or_else(
            || best_tile(on.info(), op.x.dtype, [m, cols, k]),
            |forced| (forced as usize, forced.stages()),
        ),
        false => (TILES.len(), ANY.1),
    };
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
        stages: word(stages),
    };
    let kernels = match op.x.dtype {
        DType::F16 => &F16,
        DType::BF16 => &BF16,
        DType::I8 => &INT8,
        DType::F32 | DType::U32 => {
            let [rows, columns] = WIDE;
            return on.run(&F32, [m.div_ceil(rows), cols.div_ceil(columns), 1], &args);
        }
    };
    let tile = TILES.get(best).unwrap_or(&TILES[ANY.0]);
    let kernel = Kernel { shared: tile.shared_bytes(stages) as u32, ..kernels[best] };
    on.run(&kernel, grid(on, tile, stages, [m, cols, k * size]), &args)
}

/// Blocks for `m` rows and `n` columns: rows of a turn, columns, turns.
fn grid(on: &dyn Target, tile: &Tile, stages: usize, sizes: [usize; 3]) -> [usize; 3] {
    let rows = sizes[0].div_ceil(tile.rows);
    // What tests compute is small, and should take more than one turn.
    let turn = if on.tile().is_some() { 2 } else { turn(on.info(), tile, stages, sizes) };
    let turn = turn.min(rows);
    [turn, sizes[1].div_ceil(tile.cols), rows.div_ceil(turn.max(1))]
}

/// Chooses the tile, and the slabs in shared memory, that take the least time for `m` rows and `n` columns of sums over
/// `k` elements. Of equals it takes those with more slabs.
fn best_tile(info: &DeviceInfo, dtype: DType, sizes: [usize; 3]) -> (usize, usize) {
    let choices = (0..TILES.len()).flat_map(|tile| STAGES.map(|stages| (tile, stages)));
    let fit = choices.filter(|&(tile, stages)| TILES[tile].shared_bytes(stages) <= info.shared_bytes);
    let time = |&(tile, stages): &(usize, usize)| clocks(info, &TILES[tile], stages, dtype, sizes);
    fit.min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or((TILES.len() - 1, 2))
}

fn clocks(info: &DeviceInfo, tile: &Tile, stages: usize, dtype: DType, [m, n, k]: [usize; 3]) -> f64 {
    linear_clocks(info, tile, stages, dtype == DType::I8, [m, n, k * dtype.size()])
}

/// The clocks that a launch with so much shared memory is expected to take, if tensor cores compute it.
pub(crate) fn expected_clocks(info: &DeviceInfo, op: &Linear, kernel: &str, shared: u32) -> Option<f64> {
    let tile = [F16, BF16, INT8].iter().find_map(|kernels| kernels.iter().position(|known| known.name == kernel))?;
    let tile = TILES.get(tile).unwrap_or(&TILES[ANY.0]);
    let stages = shared as usize / tile.shared_bytes(1);
    let cols = if matches!(op.epilogue, Epilogue::Swiglu { .. }) { 2 * op.out.cols } else { op.out.cols };
    Some(clocks(info, tile, stages, op.x.dtype, [op.x.rows, cols, op.x.cols]))
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

    /// A card of 132 multiprocessors.
    fn large() -> DeviceInfo {
        DeviceInfo {
            index: 0,
            name: String::new(),
            compute: (9, 0),
            memory_bytes: 0,
            multiprocessors: 132,
            shared_bytes: 227 << 10,
            multiprocessor_shared_bytes: 228 << 10,
            l2_bytes: 50 << 20,
            unified: false,
        }
    }

    /// The rows and columns that are chosen.
    fn chosen(sizes: [usize; 3], info: &DeviceInfo) -> (usize, usize) {
        let tile = TILES[best_tile(info, DType::BF16, sizes).0];
        (tile.rows, tile.cols)
    }

    #[test]
    fn few_outputs_are_spread_over_the_device() {
        // proj of JiT-B/16 and of PixelGen-XL's guided pair.
        assert_eq!(chosen([288, 768, 768], &large()), (48, 64));
        assert_eq!(chosen([576, 1152, 1152], &large()), (96, 64));
    }

    #[test]
    fn many_outputs_get_tiles_that_read_less() {
        // w12 of PixelGen-XXL, and of XL's guided pair.
        assert_eq!([[2048, 12288, 1536], [576, 6144, 1152]].map(|sizes| chosen(sizes, &large())), [(128, 128); 2]);
    }

    #[test]
    fn rows_take_turns_where_the_cache_is_small() {
        let orin = DeviceInfo { multiprocessors: 16, l2_bytes: 4 << 20, ..large() };
        // proj of PixelGen-XXL's guided pair: its 6 MB of activations fit into a large cache alone.
        let sizes = [2048, 1536, 1536 * 2];
        let turns = |info: &DeviceInfo| 2048usize.div_ceil(128).div_ceil(turn(info, &TILES[0], 2, sizes));
        assert_eq!([turns(&large()), turns(&orin)], [1, 4]);
        assert_eq!(turn(&orin, &TILES[0], 2, [0, 1536, 3072]), 1);
    }

    #[test]
    fn registers_are_those_of_the_modules() {
        let used = |line: &'static str| {
            let (kernel, rest) = line.split_once(' ').expect("a kernel");
            let registers = rest.split([' ', ':']).find_map(|word| word.parse::<usize>().ok());
            (kernel, registers.expect("registers"))
        };
        // Of what has run or will run soon; later cubins take more, which a block a multiprocessor has room for.
        let known = |line: &&str| ["sm_80", "sm_87", "sm_90"].iter().any(|target| line.contains(target));
        let report: Vec<_> = include_str!("../../modules/linear.txt").lines().filter(known).map(used).collect();
        for (i, tile) in TILES.iter().enumerate() {
            let of_tile = |name: &str| [F16, BF16, INT8].iter().any(|kernels| kernels[i].name == name);
            let most = report.iter().filter(|(kernel, _)| of_tile(kernel)).map(|(_, registers)| *registers).max();
            assert_eq!(most, Some(tile.registers), "{}x{}", tile.rows, tile.cols);
        }
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
