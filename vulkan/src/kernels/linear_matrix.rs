//! Splits a product into workgroups with cooperative matrices.

use ash::vk::PhysicalDeviceLimits;
use denoir_core::DType;
use denoir_core::ops::Linear;

use super::cut::LinearCut;
use crate::device::Candidate;
use crate::launch::word;
use crate::shader::Shader;
use crate::tier::Matrix;

/// Subgroups per workgroup and matrices per subgroup, each down and across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    subgroups: [usize; 2],
    matrices: [usize; 2],
}

/// The comments give rows × columns with matrices of 16 × 16. 288 and 576 rows are multiples of 96.
const TILES: [Tile; 6] = [
    Tile { subgroups: [2, 2], matrices: [4, 4] }, // 128 × 128
    Tile { subgroups: [2, 2], matrices: [3, 4] }, // 96 × 128
    Tile { subgroups: [2, 2], matrices: [3, 2] }, // 96 × 64
    Tile { subgroups: [2, 2], matrices: [2, 2] }, // 64 × 64
    Tile { subgroups: [2, 2], matrices: [1, 2] }, // 32 × 64
    Tile { subgroups: [1, 4], matrices: [1, 2] }, // 16 × 128
];

/// How a workgroup walks along K: loads of 16 bytes in a row of a slab, and how many slabs are on their way in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walk {
    loads: usize,
    ahead: usize,
}

/// The best first, as far as memory and registers go.
const WALKS: [Walk; 4] = [
    Walk { loads: 8, ahead: 2 },
    Walk { loads: 8, ahead: 1 },
    Walk { loads: 4, ahead: 2 },
    Walk { loads: 4, ahead: 1 },
];

/// Slabs that shared memory has room for.
const STAGES: usize = 2;
/// Bytes of a load, and of the padding of a row in shared memory.
const LOAD: usize = 16;
/// Registers of an invocation for addresses and the like.
const ADDRESSES: usize = 24;

// What a core does in a clock: multiply-adds of 16 bits, of int8 twice as many, bytes from the cache that cores share, and
// bytes of shared memory. Then clocks until bytes arrive, of a barrier, and before the first and after the last product.
// They are those of an H200 (`cuda/src/cost.rs`); what matters is their proportion, and other cards have much the same.
const PRODUCTS: f64 = 1024.0;
const FILL: f64 = 32.0;
const BANKS: f64 = 128.0;
const LATENCY: f64 = 600.0;
const BARRIER: f64 = 40.0;
const ENDS: f64 = 2000.0;
/// Workgroups that a core runs at once, at most.
const RESIDENT: usize = 4;

/// The limits of a device, and the approximate number of workgroups it runs at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(super) shared_bytes: usize,
    pub(super) invocations: usize,
    pub(super) cores: usize,
    /// Whether it is a processor: that has memory for registers, but takes ever longer to compile.
    pub(super) processor: bool,
}

impl Room {
    pub(crate) fn new(about: &Candidate) -> Room {
        Room { processor: about.is_processor(), ..Room::of(&about.properties.limits, about.unified()) }
    }

    /// Vulkan does not report the number of cores. A card has many; a device that shares the CPU's memory has few.
    pub(crate) fn of(limits: &PhysicalDeviceLimits, unified: bool) -> Room {
        Room {
            shared_bytes: limits.max_compute_shared_memory_size as usize,
            invocations: limits.max_compute_work_group_invocations as usize,
            cores: if unified { 12 } else { 96 },
            processor: false,
        }
    }

    /// Registers of an invocation. Vulkan does not report them: in subgroups of 32 and more it has 255 (NVIDIA) or 256
    /// (AMD), in smaller ones 128 (Intel).
    pub(super) fn registers(&self, subgroup: usize) -> usize {
        match subgroup {
            _ if self.processor => 160,
            ..32 => 128,
            _ => 240,
        }
    }
}

/// Matrices of a device for one type: rows, columns and depth, bytes of an element, and invocations that share one.
#[derive(Clone, Copy, Debug)]
struct Shape {
    size: [usize; 3],
    bytes: usize,
    subgroup: usize,
}

/// The workgroups of a product; `None` if the device lists no matrices for its types, or none that fit it.
pub(crate) fn cut(matrix: &Matrix, room: Room, op: &Linear) -> Option<LinearCut> {
    let (shader, size, bytes) = match (op.x.dtype, op.w.data.dtype) {
        (DType::F16, DType::F16) => (Shader::LinearMatrix, matrix.f16?, 2),
        (DType::BF16, DType::BF16) => (Shader::LinearMatrixBf16, matrix.f16?, 2),
        (DType::I8, DType::I8) => (Shader::LinearMatrixInt8, matrix.int8?, 1),
        _ => return None,
    };
    let shape = Shape { size: size.map(|n| n as usize), bytes, subgroup: matrix.subgroup as usize };
    let (tile, walk) = choose(&shape, &room, [op.out.rows, op.out.cols, op.x.cols])?;
    let ([tm, tn, tk], [sm, sn], [rm, rn]) = (shape.size, tile.subgroups, tile.matrices);
    let values = [tile.threads(&shape), tm, tn, tk, rm, rn, sm, sn].map(word);
    let mut constants: Vec<(u32, u32)> = (0..).zip(values).collect();
    constants.extend([(9, word(walk.loads)), (10, word(walk.ahead))]);
    Some(LinearCut {
        shader,
        constants,
        rows: tile.rows(&shape),
        cols: tile.cols(&shape),
        vector: Some((LOAD / bytes, 8)),
        subgroup: Some(matrix.subgroup),
    })
}

/// The tile and the walk that take the least time for (m, n) results of k products each.
fn choose(shape: &Shape, room: &Room, sizes: [usize; 3]) -> Option<(Tile, Walk)> {
    let ways = TILES.into_iter().flat_map(|tile| WALKS.map(|walk| (tile, walk)));
    let fits = |(tile, walk): &(Tile, Walk)| {
        tile.shared_bytes(shape, *walk) <= room.shared_bytes
            && tile.threads(shape) <= room.invocations
            && tile.registers(shape, *walk) <= room.registers(shape.subgroup)
    };
    let clocks = |(tile, walk): &(Tile, Walk)| tile.clocks(shape, *walk, room, sizes);
    ways.filter(fits).min_by(|a, b| clocks(a).total_cmp(&clocks(b)))
}

impl Tile {
    fn threads(&self, shape: &Shape) -> usize {
        self.subgroups[0] * self.subgroups[1] * shape.subgroup
    }

    fn rows(&self, shape: &Shape) -> usize {
        self.subgroups[0] * self.matrices[0] * shape.size[0]
    }

    fn cols(&self, shape: &Shape) -> usize {
        self.subgroups[1] * self.matrices[1] * shape.size[1]
    }

    /// Bytes of shared memory, as in the shader: slabs, whose place a row of each subgroup's sums takes at the end.
    fn shared_bytes(&self, shape: &Shape, walk: Walk) -> usize {
        let slabs = STAGES * (self.rows(shape) + self.cols(shape)) * LOAD * (walk.loads + 1);
        let [tm, tn, _] = shape.size;
        let sums = self.subgroups[0] * self.subgroups[1] * tm * (self.matrices[1] * tn * 4 + LOAD);
        slabs.max(sums)
    }

    /// Registers of an invocation: sums, a step's factors, and what is on its way. The next step's factors take those that
    /// are left.
    fn registers(&self, shape: &Shape, walk: Walk) -> usize {
        let ([tm, tn, tk], [rm, rn]) = (shape.size, self.matrices);
        let factors = (rm * tm + rn * tn) * tk * shape.bytes / 4;
        let rows = self.threads(shape) / walk.loads;
        let loads = self.rows(shape).div_ceil(rows) + self.cols(shape).div_ceil(rows);
        (rm * rn * tm * tn + factors).div_ceil(shape.subgroup) + walk.ahead * loads * LOAD / 4 + ADDRESSES
    }

    /// Estimates the clocks that the busiest core needs: CUDA's model, where slabs wait in registers.
    fn clocks(&self, shape: &Shape, walk: Walk, room: &Room, [m, n, k]: [usize; 3]) -> f64 {
        let (rows, cols, slab) = (self.rows(shape), self.cols(shape), walk.loads * LOAD);
        let products = (rows * cols * slab) as f64 / (2.0 * PRODUCTS);
        let fill = ((rows + cols) * slab) as f64 / FILL;
        let read = self.subgroups[1] * rows + self.subgroups[0] * cols;
        let shared = ((read + rows + cols) * slab) as f64 / BANKS;
        // A slab of each of the workgroups that share the core.
        let slab_clocks = |groups: usize| {
            let groups = groups as f64;
            let waiting = (LATENCY + groups * fill) / walk.ahead as f64;
            (products.max(shared) + BARRIER).max(groups * products.max(shared).max(fill)).max(waiting)
        };
        let groups = (m.div_ceil(rows) * n.div_ceil(cols)).div_ceil(room.cores);
        let resident = (2 * room.shared_bytes / self.shared_bytes(shape, walk)).clamp(1, RESIDENT);
        let (rounds, rest) = (groups / resident, groups % resident);
        let slabs = (k * shape.bytes).div_ceil(slab) as f64;
        let last = if rest > 0 { slabs * slab_clocks(rest) + ENDS } else { 0.0 };
        rounds as f64 * (slabs * slab_clocks(resident) + ENDS) + last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F16: Shape = Shape { size: [16; 3], bytes: 2, subgroup: 32 };
    const NVIDIA: Room = Room { shared_bytes: 48 << 10, invocations: 1024, cores: 96, processor: false };

    fn best(shape: &Shape, room: &Room, sizes: [usize; 3]) -> (usize, usize) {
        let (tile, _) = choose(shape, room, sizes).unwrap();
        (tile.rows(shape), tile.cols(shape))
    }

    #[test]
    fn tiles_suit_the_product_and_the_device() {
        let few = Room { cores: 12, ..NVIDIA };
        assert!(best(&F16, &NVIDIA, [4096, 4096, 1024]).0 >= 96, "large products have large tiles");
        assert!(best(&F16, &NVIDIA, [16, 1152, 1152]).0 <= 32, "few rows leave no room for large ones");
        assert!(best(&F16, &few, [288, 4608, 1152]).0 >= 96, "few cores are busy with large ones");
        assert!(best(&F16, &NVIDIA, [288, 1152, 1152]).0 < 96, "many cores are not");
    }

    #[test]
    fn every_tile_fits_the_devices_that_have_cooperative_matrices() {
        let int8 = Shape { size: [16, 16, 32], bytes: 1, ..F16 };
        let narrow = Shape { size: [16, 8, 16], ..F16 };
        let wave64 = Shape { subgroup: 64, ..F16 };
        for shape in [F16, int8, narrow, wave64] {
            for tile in TILES {
                let walk = WALKS[3];
                assert!(tile.shared_bytes(&shape, walk) <= 40 << 10, "{tile:?} of {shape:?}");
                assert!(tile.registers(&shape, walk) <= 240, "{tile:?} of {shape:?}");
            }
        }
    }

    #[test]
    fn slabs_grow_with_shared_memory_and_wait_in_registers() {
        let walks = |tile: &Tile, shape: &Shape, room: &Room| {
            let fits = |walk: &Walk| {
                tile.shared_bytes(shape, *walk) <= room.shared_bytes
                    && tile.registers(shape, *walk) <= room.registers(shape.subgroup)
            };
            WALKS.into_iter().find(fits)
        };
        let [large, .., small, _] = TILES;
        assert_eq!(walks(&small, &F16, &NVIDIA), Some(Walk { loads: 8, ahead: 2 }));
        assert_eq!(walks(&large, &F16, &NVIDIA), Some(Walk { loads: 4, ahead: 1 }), "its sums take most registers");
        let least = Room { shared_bytes: 16 << 10, ..NVIDIA };
        assert_eq!(walks(&small, &F16, &least), Some(Walk { loads: 4, ahead: 2 }));
        assert_eq!(walks(&large, &F16, &least), None);
        let intel = Shape { size: [8, 8, 16], subgroup: 8, ..F16 };
        assert_eq!(walks(&large, &intel, &NVIDIA), None, "subgroups of eight have few registers");
        assert!(walks(&small, &intel, &NVIDIA).is_some());
    }

    #[test]
    fn some_tile_fits_sixteen_kibibytes() {
        let least = Room { shared_bytes: 16 << 10, ..NVIDIA };
        for shape in [F16, Shape { size: [16, 16, 32], bytes: 1, ..F16 }, Shape { size: [16, 8, 16], ..F16 }] {
            assert!(choose(&shape, &least, [288, 1152, 1152]).is_some(), "{shape:?}");
        }
    }
}
