//! Splits a product into workgroups with cooperative matrices.

use ash::vk;
use denoir_core::DType;
use denoir_core::ops::Linear;

use super::cut::LinearCut;
use crate::launch::word;
use crate::shader::Shader;
use crate::tier::Matrix;

/// Subgroups per workgroup and matrices per subgroup, each down and across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    subgroups: [usize; 2],
    matrices: [usize; 2],
}

const TILES: [Tile; 4] = [
    Tile { subgroups: [2, 2], matrices: [4, 4] },
    Tile { subgroups: [2, 2], matrices: [2, 4] },
    Tile { subgroups: [2, 2], matrices: [2, 2] },
    Tile { subgroups: [1, 4], matrices: [1, 2] },
];
/// Bytes per row of an operand tile, with padding, as in the shader.
const ROW_BYTES: usize = 80;
/// Cost of loading a row or column of operands, in units of results: tiles of 128 × 128 then take as long to load as to
/// multiply. This holds on cards whose cache delivers a hundredth of a byte per operation of the matrix units.
const LOAD: usize = 64;

/// The limits of a device, and the approximate number of workgroups it runs at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(super) shared_bytes: usize,
    pub(super) invocations: usize,
    pub(super) cores: usize,
}

impl Room {
    /// Vulkan does not report the number of cores. A card has many; a device that shares the CPU's memory has few.
    pub(crate) fn new(limits: &vk::PhysicalDeviceLimits, unified: bool) -> Room {
        Room {
            shared_bytes: limits.max_compute_shared_memory_size as usize,
            invocations: limits.max_compute_work_group_invocations as usize,
            cores: if unified { 12 } else { 96 },
        }
    }
}

/// The workgroups of a product; `None` if the device lists no matrices for its types.
pub(crate) fn cut(matrix: &Matrix, room: Room, op: &Linear) -> Option<LinearCut> {
    let (shader, shape, vector) = match (op.x.dtype, op.w.data.dtype) {
        (DType::F16, DType::F16) => (Shader::LinearMatrix, matrix.f16?, 8),
        (DType::BF16, DType::BF16) => (Shader::LinearMatrixBf16, matrix.f16?, 8),
        (DType::I8, DType::I8) => (Shader::LinearMatrixInt8, matrix.int8?, 16),
        _ => return None,
    };
    let [tm, tn, tk] = shape.map(|size| size as usize);
    let subgroup = matrix.subgroup as usize;
    let fits =
        |tile: &&Tile| tile.shared_bytes(tm, tn) <= room.shared_bytes && tile.threads(subgroup) <= room.invocations;
    let cost = |tile: &&Tile| tile.cost((op.out.rows, op.out.cols), (tm, tn), room.cores);
    let tile = TILES.iter().filter(fits).min_by_key(cost)?;
    let ([sm, sn], [rm, rn]) = (tile.subgroups, tile.matrices);
    let values = [tile.threads(subgroup), tm, tn, tk, rm, rn, sm, sn];
    Some(LinearCut {
        shader,
        constants: (0..).zip(values.map(word)).collect(),
        rows: tile.rows(tm),
        cols: tile.cols(tn),
        vector: Some((vector, 8)),
        subgroup: Some(matrix.subgroup),
    })
}

impl Tile {
    fn threads(&self, subgroup: usize) -> usize {
        self.subgroups[0] * self.subgroups[1] * subgroup
    }

    fn rows(&self, tm: usize) -> usize {
        self.subgroups[0] * self.matrices[0] * tm
    }

    fn cols(&self, tn: usize) -> usize {
        self.subgroups[1] * self.matrices[1] * tn
    }

    fn shared_bytes(&self, tm: usize, tn: usize) -> usize {
        (self.rows(tm) + self.cols(tn)) * ROW_BYTES + self.subgroups[0] * self.subgroups[1] * tm * tn * 4
    }

    /// Estimates the time for (m, n) results: rounds of workgroups, each as long as its products and loads.
    fn cost(&self, (m, n): (usize, usize), (tm, tn): (usize, usize), cores: usize) -> usize {
        let (rows, cols) = (self.rows(tm), self.cols(tn));
        let rounds = (m.div_ceil(rows) * n.div_ceil(cols)).div_ceil(cores);
        rounds * (rows * cols + (rows + cols) * LOAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(m: usize, n: usize, cores: usize) -> (usize, usize) {
        let tile = TILES.iter().min_by_key(|tile| tile.cost((m, n), (16, 16), cores)).unwrap();
        (tile.rows(16), tile.cols(16))
    }

    #[test]
    fn tiles_suit_the_product_and_the_device() {
        assert_eq!(best(4096, 4096, 96), (128, 128), "large products have large tiles");
        assert_eq!(best(16, 1152, 96), (16, 128), "few rows leave no room for large ones");
        assert_eq!(best(288, 4608, 12), (128, 128), "few cores are busy with large ones");
        assert!(best(288, 1152, 96).0 < 128, "many cores are not");
    }

    #[test]
    fn tiles_fit_the_memory_that_most_devices_have() {
        assert!(TILES.iter().all(|tile| tile.shared_bytes(16, 16) <= 32 << 10));
    }
}
