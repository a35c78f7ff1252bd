//! Splits attention into workgroups with cooperative matrices.

use denoir_core::DType;
use denoir_core::ops::Attention;

use super::cut::{AttentionCut, is_aligned};
use super::linear_matrix::Room;
use crate::shader::Shader;
use crate::tier::Matrix;

/// Subgroups per workgroup, each with a matrix of queries: the more, the more often a key is used that was loaded.
const SUBGROUPS: [usize; 3] = [4, 2, 1];
/// Keys of a tile, and how many tiles shared memory has room for, the best first.
const TILES: [(usize, usize); 5] = [(32, 2), (16, 2), (32, 1), (16, 1), (8, 1)];

/// Maximum registers of an invocation for queries and sums: more would spill, and software devices compile them slowly.
const REGISTERS: usize = 128;
/// Registers of an invocation for addresses and the like, as compilers for NVIDIA's and AMD's cards need them.
const ADDRESSES: usize = 56;

/// The matrices and heads of an attention.
#[derive(Clone, Copy, Debug)]
struct Form {
    shape: [usize; 3],
    subgroup: usize,
    head_dim: usize,
    /// Whether each operand is split in two.
    split: bool,
}

/// How keys come to a workgroup of so many subgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    subgroups: usize,
    keys: usize,
    stages: usize,
}

/// The workgroups of an attention; `None` if the device lists no f16 matrices, heads are too long for its registers, or
/// no tile fits its shared memory.
pub(crate) fn cut(matrix: &Matrix, room: Room, op: &Attention) -> Option<AttentionCut> {
    let form = Form {
        shape: matrix.f16?.map(|size| size as usize),
        subgroup: matrix.subgroup as usize,
        head_dim: op.head_dim(),
        split: op.products == DType::F32,
    };
    let workgroups = |queries: usize| op.queries.tokens().div_ceil(queries) * op.heads * op.queries.images;
    let tile = form.choose(&room, workgroups)?;
    let [tm, tn, tk] = form.shape;
    Some(AttentionCut {
        shader: Shader::AttentionMatrix,
        constants: vec![
            tile.subgroups * form.subgroup,
            tm,
            tn,
            tk,
            tile.subgroups,
            tile.keys,
            form.split.into(),
            form.head_dim,
            is_aligned(op).into(),
            tile.stages,
            usize::from(!room.processor),
        ],
        queries: tile.subgroups * tm,
        subgroup: Some(matrix.subgroup),
    })
}

impl Form {
    /// The keys of a tile follow from the device and the heads alone: they set the order of rounding, and so the bytes. Then
    /// as many subgroups as keep all cores busy with so many workgroups of these queries, or as fit.
    fn choose(&self, room: &Room, workgroups: impl Fn(usize) -> usize) -> Option<Tile> {
        let [tm, tn, tk] = self.shape;
        if self.registers() > REGISTERS * self.subgroup || !self.subgroup.is_multiple_of(tm) {
            return None;
        }
        let of_matrices = |keys: usize| [tn, tk, 4 * self.subgroup / tm].iter().all(|&n| keys.is_multiple_of(n));
        let tiles = |subgroups| TILES.map(|(keys, stages)| Tile { subgroups, keys, stages });
        let fits = |tile: &Tile| {
            of_matrices(tile.keys)
                && self.shared_bytes(tile) <= room.shared_bytes
                && tile.subgroups * self.subgroup <= room.invocations
                && self.all_registers(tile) <= room.registers(self.subgroup)
        };
        let keys = SUBGROUPS.into_iter().find_map(|n| tiles(n).into_iter().find(fits))?.keys;
        let mut fitting =
            SUBGROUPS.into_iter().filter_map(|n| tiles(n).into_iter().filter(|tile| tile.keys == keys).find(fits));
        let busy = |tile: &Tile| workgroups(tile.subgroups * tm) >= room.cores;
        fitting.clone().find(busy).or_else(|| fitting.next_back())
    }

    /// Channels of a row, rounded up to whole matrices.
    fn width(&self) -> usize {
        let [_, tn, tk] = self.shape;
        self.head_dim.next_multiple_of(tn.max(tk))
    }

    fn parts(&self) -> usize {
        1 + usize::from(self.split)
    }

    /// Registers for a subgroup's queries in f16 and its sums in f32.
    fn registers(&self) -> usize {
        let elements = self.shape[0] * self.width();
        elements + elements * self.parts() / 2
    }

    /// Registers of an invocation: also for a tile's scores, before and after they have passed through shared memory, and
    /// for the keys or values on their way. Subgroups of fewer than 32 have too few in any case.
    fn all_registers(&self, tile: &Tile) -> usize {
        let on_their_way = tile.keys * self.width() / tile.subgroups;
        match self.subgroup {
            ..32 => 0,
            lanes => (self.registers() + 2 * self.shape[0] * tile.keys + on_their_way) / lanes + ADDRESSES,
        }
    }

    /// Bytes of shared memory, as in the shader: tiles of keys and values, whose place queries have first, and scores.
    fn shared_bytes(&self, tile: &Tile) -> usize {
        let queries = tile.subgroups * self.shape[0];
        let row = self.parts() * 2 * (self.width() + 8);
        queries.max(2 * tile.keys * tile.stages) * row + queries * 4 * (tile.keys + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NVIDIA: Room = Room { shared_bytes: 48 << 10, invocations: 1024, cores: 96, processor: false };

    fn form(shape: [usize; 3], subgroup: usize, head_dim: usize, split: bool) -> Form {
        Form { shape, subgroup, head_dim, split }
    }

    /// The tile of many workgroups.
    fn chosen(form: &Form, shared_bytes: usize) -> Option<Tile> {
        form.choose(&Room { shared_bytes, ..NVIDIA }, |_| usize::MAX)
    }

    #[test]
    fn tiles_fit_the_memory_that_devices_have() {
        for head_dim in [64, 72, 80] {
            let tile = chosen(&form([16; 3], 32, head_dim, false), 32 << 10).unwrap();
            assert_eq!(tile, Tile { subgroups: 4, keys: 32, stages: 2 }, "heads of {head_dim}, rounded");
            let tile = chosen(&form([16; 3], 32, head_dim, true), 48 << 10).unwrap();
            assert_eq!((tile.subgroups, tile.stages), (4, 2), "heads of {head_dim}, exact, on NVIDIA's cards");
            assert!(chosen(&form([16; 3], 32, head_dim, true), 32 << 10).is_some(), "and elsewhere");
        }
        for shape in [[16, 16, 16], [16, 8, 16], [8, 16, 16], [8, 8, 8]] {
            assert!(chosen(&form(shape, 32, 128, true), 32 << 10).is_some(), "the longest heads with {shape:?}");
        }
        assert!(chosen(&form([16; 3], 64, 64, false), 32 << 10).is_some(), "subgroups of 64");
    }

    #[test]
    fn a_tile_has_the_same_keys_for_any_number_of_workgroups() {
        let form = form([16; 3], 32, 80, true);
        let keys = |many| form.choose(&NVIDIA, |_| many).unwrap();
        assert_eq!(keys(usize::MAX).keys, keys(1).keys);
        assert!(keys(usize::MAX).subgroups > keys(1).subgroups);
    }

    #[test]
    fn all_heads_stay_in_the_registers_of_subgroups_of_32() {
        for shape in [[16, 16, 16], [16, 8, 16], [8, 16, 16], [8, 8, 8]] {
            let form = form(shape, 32, 128, true);
            assert!(form.registers() <= REGISTERS * 32, "{shape:?}");
            assert!(form.all_registers(&chosen(&form, 48 << 10).unwrap()) <= 240, "{shape:?}");
        }
        let registers = |head_dim, split| form([8, 8, 16], 8, head_dim, split).registers();
        assert!(registers(80, false) <= REGISTERS * 8, "eight invocations have room for heads of 80 in f16");
        assert!(registers(80, true) > REGISTERS * 8, "but not twice");
    }
}
