//! What a linear layer costs: the model by which tiles are chosen. `cargo xtask gpu-model` shows what it says of any card.
//!
//! Its form and most of its constants are fitted to 128 measurements on an H200 (`benches/record/2026-11-28-h200.md`), 6%
//! off in the geometric mean. Those kernels loaded factors between products, which `products + loads` clocks a slab and
//! 1.43 times the products fitted; today's load them meanwhile, and what that gives is not measured yet.

use denoir_core::DType;

use crate::DeviceInfo;

/// Bytes of a row in a slab.
const SLAB: usize = 128;
/// Clocks of a block before its first product and after its last.
const ENDS: f64 = 1950.0;
/// Clocks of a slab that are neither products nor loads from shared memory: the barrier.
const BARRIER: f64 = 43.0;
/// How far products stay below their peak where several blocks share a multiprocessor, as in what vendors publish of their
/// own libraries on AGX Orin and A100.
const PRODUCTS: f64 = 1.25;
/// Clocks until bytes from memory arrive.
const LATENCY: f64 = 600.0;
/// The part of a slab's time that has passed when the slab after those under way is asked for.
const ASKED: f64 = 0.25;
/// Bytes of shared memory in a clock.
const BANKS: f64 = 128.0;
/// Registers, and threads, of a multiprocessor.
const REGISTERS: usize = 65536;
const THREADS: usize = 1536;
/// What the driver keeps of each block's shared memory.
const RESERVED: usize = 1024;

/// A tile of a linear layer, and the block that computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Rows and columns of a warp.
    pub(crate) warp: [usize; 2],
    /// Registers of a thread, at most.
    pub(crate) registers: usize,
}

impl Tile {
    const fn warps(&self) -> usize {
        self.rows / self.warp[0] * (self.cols / self.warp[1])
    }

    pub(crate) const fn threads(&self) -> usize {
        32 * self.warps()
    }

    /// Bytes of so many slabs.
    pub(crate) const fn shared_bytes(&self, stages: usize) -> usize {
        (self.rows + self.cols) * SLAB * stages
    }

    /// Blocks that a multiprocessor runs at once.
    fn resident(&self, info: &DeviceInfo, stages: usize) -> usize {
        let by_registers = REGISTERS / (self.registers.next_multiple_of(8) * self.threads());
        let by_shared = info.multiprocessor_shared_bytes / (self.shared_bytes(stages) + RESERVED);
        by_registers.min(by_shared).min(THREADS / self.threads()).max(1)
    }
}

/// What a multiprocessor does in a clock.
struct Rates {
    /// Multiply-adds by `mma.sync`: of 16-bit numbers with f32 sums, and of int8.
    products: [f64; 2],
    /// Bytes from the second-level cache while all multiprocessors ask.
    fill: f64,
}

impl Rates {
    /// Products are those of NVIDIA's architecture papers; 9.0 reaches 62% of its peak by `mma.sync`, in int8 half. Of 8.9
    /// and 12.0 professional cards have twice as many of 16 bits as GeForce, whose are given. The cache's rate is measured
    /// on 9.0, 85% of the paper's on 8.0, and assumed elsewhere, as is all of later generations.
    fn of(info: &DeviceInfo) -> Rates {
        let (products, fill) = match info.compute {
            (8, 0) => ([1024.0, 2048.0], 40.0),
            (8, 7) | (11, _) => ([1024.0, 2048.0], 32.0),
            (8, 6) => ([512.0, 1024.0], 20.0),
            (8, _) | (12, _) => ([256.0, 1024.0], 20.0),
            _ => ([1270.0, 2065.0], 35.8),
        };
        Rates { products, fill }
    }
}

/// Multiply-adds of a multiprocessor's tensor cores in a clock as these kernels use them, of f16, bf16 or int8; `None`
/// for types that they do not multiply.
pub fn products_per_clock(info: &DeviceInfo, dtype: DType) -> Option<f64> {
    let [half, int8] = Rates::of(info).products;
    match dtype {
        DType::F16 | DType::BF16 => Some(half),
        DType::I8 => Some(int8),
        DType::F32 | DType::U32 => None,
    }
}

/// Clocks that the busiest multiprocessor needs for `m` × `n` outputs of `k_bytes` bytes along K each, of int8 or of 16
/// bits, in blocks with so many slabs in shared memory.
pub(crate) fn linear_clocks(
    info: &DeviceInfo,
    tile: &Tile,
    stages: usize,
    int8: bool,
    [m, n, k_bytes]: [usize; 3],
) -> f64 {
    let rates = Rates::of(info);
    let elements = if int8 { SLAB } else { SLAB / 2 };
    let products = (tile.rows * tile.cols * elements) as f64 / rates.products[usize::from(int8)];
    let bytes = tile.shared_bytes(1) as f64;
    let loads = (tile.warps() * (tile.warp[0] + tile.warp[1]) * SLAB) as f64;
    let shared = (loads + bytes) / BANKS;
    // A slab of each of the blocks that share the multiprocessor.
    let slab = |blocks: usize| {
        let blocks = blocks as f64;
        let fill = blocks * bytes / rates.fill;
        let alone = products.max(shared) + BARRIER;
        let waiting = (LATENCY + fill) / (stages as f64 - 1.0 - ASKED);
        alone.max(blocks * PRODUCTS * products).max(blocks * shared).max(fill).max(waiting)
    };
    let blocks = (m.div_ceil(tile.rows) * n.div_ceil(tile.cols)).div_ceil(info.multiprocessors.max(1));
    let (resident, slabs) = (tile.resident(info, stages), k_bytes.div_ceil(SLAB) as f64);
    let (rounds, rest) = (blocks / resident, blocks % resident);
    let last = if rest > 0 { slabs * slab(rest) + ENDS } else { 0.0 };
    rounds as f64 * (slabs * slab(resident) + ENDS) + last
}

/// How many row tiles take their turn together, each turn with all columns, so that the fewest bytes come from memory.
/// Blocks that run at once read the rows of their turn once if those fit into half of the second-level cache, else again
/// for every few columns; every turn reads the weights again, unless they fit.
pub(crate) fn turn(info: &DeviceInfo, tile: &Tile, stages: usize, [m, n, k_bytes]: [usize; 3]) -> usize {
    let (rows, cols) = (m.div_ceil(tile.rows), n.div_ceil(tile.cols));
    let (room, at_once) = (info.l2_bytes / 2, info.multiprocessors * tile.resident(info, stages));
    let bytes = |turn: usize| {
        let turns = rows.div_ceil(turn);
        let passes = if turn * tile.rows * k_bytes <= room { 1 } else { cols.div_ceil((at_once / turn).max(1)) };
        let reads = if n * k_bytes <= room { 1 } else { turns };
        m * k_bytes * passes + n * k_bytes * reads
    };
    // Turns of equal length, the longest first: equal costs keep the fewest.
    (1..=rows).map(|turns| rows.div_ceil(turns)).min_by_key(|&turn| bytes(turn)).unwrap_or(1)
}
