//! Splits attention into workgroups with cooperative matrices.

use denoir_core::DType;
use denoir_core::ops::Attention;

use super::cut::{AttentionCut, is_aligned};
use super::linear_matrix::Room;
use crate::shader::Shader;
use crate::tier::Matrix;

/// Subgroups per workgroup, and matrices across a tile of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    subgroups: usize,
    across: usize,
}

/// Largest first: a larger tile reuses each loaded key more often.
const TILES: [Tile; 4] = [
    Tile { subgroups: 4, across: 2 },
    Tile { subgroups: 2, across: 2 },
    Tile { subgroups: 2, across: 1 },
    Tile { subgroups: 1, across: 1 },
];

/// Maximum registers of an invocation for queries and sums: more would spill, and software devices compile them slowly.
const REGISTERS: usize = 128;

/// The workgroups of an attention; `None` if the device lists no f16 matrices, heads are too long for its registers, or
/// no tile fits its shared memory.
pub(crate) fn cut(matrix: &Matrix, room: Room, op: &Attention) -> Option<AttentionCut> {
    let shape = matrix.f16?.map(|size| size as usize);
    let (subgroup, head_dim, split) = (matrix.subgroup as usize, op.head_dim(), op.products == DType::F32);
    let fits = |tile: &&Tile| {
        (tile.across * shape[1]).is_multiple_of(shape[2])
            && tile.shared_bytes(shape, head_dim, split) <= room.shared_bytes
            && tile.subgroups * subgroup <= room.invocations
    };
    if registers(shape, head_dim, split) > REGISTERS * subgroup {
        return None;
    }
    // The largest that keeps all cores busy, or the one with the most workgroups.
    let groups = |tile: &Tile| op.queries.tokens().div_ceil(tile.subgroups * shape[0]) * op.heads * op.queries.images;
    let mut tiles = TILES.iter().filter(fits);
    let tile = tiles.clone().find(|tile| groups(tile) >= room.cores).or_else(|| tiles.next_back())?;
    let [tm, tn, tk] = shape;
    Some(AttentionCut {
        shader: Shader::AttentionMatrix,
        constants: vec![
            tile.subgroups * subgroup,
            tm,
            tn,
            tk,
            tile.subgroups,
            tile.across,
            split.into(),
            head_dim,
            is_aligned(op).into(),
        ],
        queries: tile.subgroups * tm,
        subgroup: Some(matrix.subgroup),
    })
}

/// Channels of a row, rounded up to whole matrices.
fn width([_, tn, tk]: [usize; 3], head_dim: usize) -> usize {
    head_dim.next_multiple_of(tn.max(tk))
}

/// Registers for a subgroup's queries in f16 (twice as many if split) and its sums in f32.
fn registers(shape: [usize; 3], head_dim: usize, split: bool) -> usize {
    let elements = shape[0] * width(shape, head_dim);
    elements + elements * (1 + usize::from(split)) / 2
}

impl Tile {
    /// Bytes of shared memory: operands, softmax weights and a matrix of sums for each subgroup, as in the shader.
    fn shared_bytes(&self, shape: [usize; 3], head_dim: usize, split: bool) -> usize {
        let [tm, tn, _] = shape;
        let (queries, keys, parts) = (self.subgroups * tm, self.across * tn, 1 + usize::from(split));
        let row = width(shape, head_dim) + 8;
        parts * 2 * (queries.max(2 * keys) * row + queries * (keys + 8)) + queries * tn * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_memory_that_most_devices_have() {
        let bytes = |tile: &Tile, head_dim| tile.shared_bytes([16; 3], head_dim, true);
        assert!(bytes(&TILES[0], 80) <= 48 << 10, "heads of all published networks");
        assert!(TILES.iter().any(|tile| bytes(tile, 128) <= 32 << 10), "the longest heads");
    }

    #[test]
    fn all_heads_stay_in_the_registers_of_subgroups_of_32() {
        for shape in [[16, 16, 16], [16, 8, 16], [8, 16, 16], [8, 8, 8]] {
            assert!(registers(shape, 128, true) <= REGISTERS * 32, "{shape:?}");
        }
        assert!(
            registers([8, 8, 16], 80, false) <= REGISTERS * 8,
            "eight invocations have room for heads of 80 in f16"
        );
        assert!(registers([8, 8, 16], 80, true) > REGISTERS * 8, "but not twice");
    }
}
