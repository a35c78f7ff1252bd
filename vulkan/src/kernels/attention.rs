use denoir_core::ops::Attention;

use super::linear_matrix::Room;
use super::{attention_matrix, attention_texel};
use crate::Error;
use crate::engine::Vulkan;
use crate::launch::{Launch, element_type, layout_words, word};
use crate::shader::Shader;

/// Invocations of a workgroup, and how many of them share rows.
const THREADS: usize = 128;
const LANES: usize = 16;

/// How queries are cut into workgroups.
pub(crate) struct Cut {
    pub(crate) shader: Shader,
    /// Specialisation constants, from the first on.
    pub(crate) constants: Vec<usize>,
    /// Queries of a workgroup.
    pub(crate) queries: usize,
    /// The size of a subgroup, where the shader depends on it.
    pub(crate) subgroup: Option<u32>,
}

pub(crate) fn launch(vulkan: &mut Vulkan, op: &Attention) -> Result<(), Error> {
    let head_dim = op.head_dim();
    let (about, limits) = (&vulkan.device().about, vulkan.device().limits());
    let room = Room::new(limits, about.unified());
    let matrices = vulkan.tiers().matrix.and_then(|matrix| attention_matrix::cut(&matrix, room, op));
    let texels = || if about.fetches_texels() { attention_texel::cut(op) } else { None };
    let shared_bytes = limits.max_compute_shared_memory_size as usize;
    let cut = matrices.or_else(texels).unwrap_or_else(|| tiled(head_dim, shared_bytes));
    let mut l = Launch::new(vulkan, cut.shader);
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

/// Workgroups of `attention.comp`.
fn tiled(head_dim: usize, shared_bytes: usize) -> Cut {
    let (rows, keys) = tile(head_dim, shared_bytes);
    Cut {
        shader: Shader::Attention,
        constants: vec![THREADS, rows, keys, head_dim],
        queries: THREADS / LANES * rows,
        subgroup: None,
    }
}

/// Rows of an invocation and keys of a tile: the most that fit the device's shared memory.
fn tile(head_dim: usize, shared_bytes: usize) -> (usize, usize) {
    let fits = |tile: &(usize, usize)| bytes(head_dim, *tile) <= shared_bytes;
    [(4, 32), (2, 32), (2, 16)].into_iter().find(fits).unwrap_or((1, 16))
}

/// Shared memory of a tile.
fn bytes(head_dim: usize, (rows, keys): (usize, usize)) -> usize {
    let queries = THREADS / LANES * rows;
    4 * ((queries + keys) * (head_dim | 1) + queries * (keys + 1) + queries)
}

#[cfg(test)]
mod tests {
    #[test]
    fn tiles_fit_the_memory_that_every_device_has() {
        assert_eq!(super::tile(64, 32 << 10), (4, 32));
        assert_eq!(super::tile(128, 16 << 10), (1, 16));
        assert!(super::bytes(128, (1, 16)) <= 16 << 10);
    }
}
