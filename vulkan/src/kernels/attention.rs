use denoir_core::ops::Attention;

use super::cut::{AttentionCut, PART, is_aligned};
use super::linear_matrix::Room;
use super::{attention_matrix, attention_texel};
use crate::Error;
use crate::launch::{Launch, Launcher, element_type, layout_words, word};
use crate::shader::Shader;

/// Maximum invocations of a workgroup, and the minimum number of them that share queries.
const THREADS: usize = 128;
const LANES: usize = 8;
/// Maximum number of [`PART`]-channel parts per invocation.
const QUADS: usize = 2;

/// The tile of one invocation of `attention.comp`; larger is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Number of queries that it shares.
    rows: usize,
    /// Number of its own keys.
    keys: usize,
}

const TILES: [Tile; 4] =
    [Tile { rows: 4, keys: 4 }, Tile { rows: 4, keys: 2 }, Tile { rows: 2, keys: 2 }, Tile { rows: 1, keys: 2 }];
/// For long heads on devices with little shared memory.
const LEAST: Tile = Tile { rows: 1, keys: 1 };

pub(crate) fn launch(on: &mut Launcher, op: &Attention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let about = &on.device().about;
    let room = Room::new(about);
    let matrices = on.tiers.matrix.and_then(|matrix| attention_matrix::cut(&matrix, room, op));
    let texels = || if about.is_processor() { attention_texel::cut(op) } else { None };
    let cut = matrices.or_else(texels).unwrap_or_else(|| tiled(room, op));
    let mut l = Launch::new(on, cut.shader);
    l.subgroup(cut.subgroup);
    (0..).zip(cut.constants.into_iter().map(word)).for_each(|(id, value)| l.constant(id, value));
    let q = l.read(&op.q)?;
    let k = l.read(&op.k)?;
    let v = l.read(&op.v)?;
    let out = l.write(&op.out)?;
    let [images, q_image_tokens, q_context_tokens] = layout_words(&op.queries);
    let [_, k_image_tokens, k_context_tokens] = layout_words(&op.keys);
    #[rustfmt::skip]
    let args = [
        q.at, q.stride, k.at, k.stride, v.at, v.stride, out.at, out.stride,
        images, q_image_tokens, q_context_tokens, k_image_tokens, k_context_tokens,
        (1.0 / (head_dim as f32).sqrt()).to_bits(), element_type(op.out.dtype),
    ];
    let groups = [op.queries.tokens().div_ceil(cut.queries), op.heads, op.queries.images];
    l.run(&args, groups, 4 * op.out.rows * op.keys.tokens() * op.out.cols)
}

/// Chooses the workgroups of `attention.comp`: the largest tile that keeps all cores busy, otherwise the smallest.
pub(crate) fn tiled(room: Room, op: &Attention) -> AttentionCut {
    let head_dim = op.head_dim();
    let lanes = head_dim.div_ceil(PART * QUADS).max(LANES);
    let groups = THREADS / lanes;
    let workgroups = |tile: &Tile| op.queries.tokens().div_ceil(groups * tile.rows) * op.heads * op.queries.images;
    let mut tiles = TILES.iter().filter(|tile| tile.shared_bytes(head_dim) <= room.shared_bytes);
    let busy = tiles.clone().find(|tile| workgroups(tile) >= room.cores).or_else(|| tiles.next_back());
    let tile = busy.unwrap_or(&LEAST);
    AttentionCut {
        shader: Shader::Attention,
        constants: tile.constants(head_dim).into_iter().chain([is_aligned(op).into()]).collect(),
        queries: groups * tile.rows,
        subgroup: None,
    }
}

impl Tile {
    /// The shader's first constants.
    fn constants(&self, head_dim: usize) -> [usize; 5] {
        let lanes = head_dim.div_ceil(PART * QUADS).max(LANES);
        [THREADS / lanes * lanes, lanes, self.rows, self.keys, head_dim]
    }

    /// Bytes of shared memory: queries, keys or values, softmax weights, the largest score of each invocation, as in
    /// the shader.
    fn shared_bytes(&self, head_dim: usize) -> usize {
        let (parts, lanes) = (head_dim.div_ceil(PART), head_dim.div_ceil(PART * QUADS).max(LANES));
        let (queries, keys) = (THREADS / lanes * self.rows, lanes * self.keys);
        4 * (PART * (queries * parts + keys * (parts | 1)) + queries * (keys + lanes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spirv::Module;

    #[test]
    fn the_shader_shares_as_much_as_is_counted() {
        for (head_dim, tile) in
            (1..=128).flat_map(|head_dim| TILES.iter().chain([&LEAST]).map(move |tile| (head_dim, tile)))
        {
            let module = Module::new(Shader::Attention, (0..).zip(tile.constants(head_dim).map(word)));
            assert_eq!(module.shared_bytes(), tile.shared_bytes(head_dim) as u64, "{tile:?} for heads of {head_dim}");
        }
    }

    #[test]
    fn tiles_fit_the_memory_that_devices_have() {
        let fits = |tile: &Tile, head_dim, bytes| tile.shared_bytes(head_dim) <= bytes;
        let published = [64, 72, 80];
        assert!(published.iter().all(|&head_dim| fits(&TILES[0], head_dim, 48 << 10)), "what graphics cards have");
        assert!(published.iter().all(|&head_dim| fits(&TILES[1], head_dim, 32 << 10)), "what most have");
        assert!((1..=128).all(|head_dim| fits(&LEAST, head_dim, 16 << 10)), "what every one has");
    }
}
