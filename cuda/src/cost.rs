//! What a linear layer costs: the model by which tiles are chosen. Its constants are fitted to an H200
//! (`benches/record/2026-11-28-h200.md`, 128 measurements, 8% off in the geometric mean); `cargo xtask gpu-model` shows
//! what it says of other cards.

use denoir_core::DType;

use crate::DeviceInfo;

/// Clocks of a block before its first product and after its last.
const ENDS: f64 = 3300.0;
/// Clocks of a slab that are neither products nor loads from shared memory: the barrier.
const BARRIER: f64 = 36.0;
/// How far products, and bytes of shared memory, stay below their peak where several blocks share a multiprocessor.
const PRODUCTS: f64 = 1.63;
const SHARED: f64 = 0.93;
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
    /// Slabs of 128 bytes per row in shared memory.
    pub(crate) stages: usize,
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

    pub(crate) const fn shared_bytes(&self) -> usize {
        (self.rows + self.cols) * SLAB * self.stages
    }

    /// Blocks that a multiprocessor runs at once.
    fn resident(&self, info: &DeviceInfo) -> usize {
        let by_registers = REGISTERS / (self.registers.next_multiple_of(8) * self.threads());
        let by_shared = info.multiprocessor_shared_bytes / (self.shared_bytes() + RESERVED);
        by_registers.min(by_shared).min(THREADS / self.threads()).max(1)
    }
}

/// Bytes of a row in a slab.
pub(crate) const SLAB: usize = 128;

/// Multiply-adds of a multiprocessor in a clock, by `mma.sync`: of 16-bit numbers with f32 sums, and of int8. From
/// NVIDIA's architecture papers; 9.0 reaches 62% of its peak so, and later generations are assumed to be like the one
/// before. Professional cards of 8.9 and 12.0 have twice as many of 16 bits as GeForce, whose are given.
fn rates(compute: (u32, u32)) -> [f64; 2] {
    match compute {
        (8, 0 | 7) | (11, _) => [1024.0, 2048.0],
        (8, 6) => [512.0, 1024.0],
        (8, _) | (12, _) => [256.0, 1024.0],
        _ => [1270.0, 2540.0],
    }
}

/// Multiply-adds of a multiprocessor's tensor cores in a clock as these kernels use them, of f16, bf16 or int8; `None`
/// for types that they do not multiply.
pub fn products_per_clock(info: &DeviceInfo, dtype: DType) -> Option<f64> {
    match dtype {
        DType::F16 | DType::BF16 => Some(rates(info.compute)[0]),
        DType::I8 => Some(rates(info.compute)[1]),
        DType::F32 | DType::U32 => None,
    }
}

/// Clocks that the busiest multiprocessor needs for `m` × `n` outputs of `k_bytes` bytes along K each, of int8 or of 16
/// bits.
pub(crate) fn linear_clocks(info: &DeviceInfo, tile: &Tile, int8: bool, [m, n, k_bytes]: [usize; 3]) -> f64 {
    let elements = if int8 { SLAB } else { SLAB / 2 };
    let products = (tile.rows * tile.cols * elements) as f64 / rates(info.compute)[usize::from(int8)];
    let loads = (tile.warps() * (tile.warp[0] + tile.warp[1]) * SLAB) as f64 / BANKS;
    let copies = ((tile.rows + tile.cols) * SLAB) as f64 / BANKS;
    // A block alone waits for its loads; with others, their products fill the time.
    let slab = |blocks: usize| {
        let most = (PRODUCTS * products).max(SHARED * (loads + copies));
        (products + loads + BARRIER).max(blocks as f64 * most)
    };
    let blocks = (m.div_ceil(tile.rows) * n.div_ceil(tile.cols)).div_ceil(info.multiprocessors.max(1));
    let (resident, slabs) = (tile.resident(info), k_bytes.div_ceil(SLAB) as f64);
    let (rounds, rest) = (blocks / resident, blocks % resident);
    let last = if rest > 0 { slabs * slab(rest) + ENDS } else { 0.0 };
    rounds as f64 * (slabs * slab(resident) + ENDS) + last
}
