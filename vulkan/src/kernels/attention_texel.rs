//! How attention is cut into workgroups on processors that run shaders.

use denoir_core::ops::Attention;

use super::attention::Cut;
use super::linear_texel::{LANES, starts_at_texels};
use crate::shader::Shader;

/// Queries of an invocation, and keys that it takes at once.
const ROWS: usize = 2;
const KEYS: usize = 8;
/// Channels of a head, at most: compilers take far longer for more.
const MAX_HEAD_DIM: usize = 64;

/// The workgroups of an attention; `None` where rows are unaligned, or heads are too long or do not fill these tiles.
pub(crate) fn cut(op: &Attention) -> Option<Cut> {
    let head_dim = op.head_dim();
    let worth = op.queries.tokens() >= LANES * ROWS;
    let whole = head_dim.is_multiple_of(4)
        && head_dim <= MAX_HEAD_DIM
        && [&op.q, &op.k, &op.v].into_iter().all(starts_at_texels);
    (worth && whole).then(|| Cut {
        shader: Shader::AttentionTexel,
        constants: vec![LANES, ROWS, KEYS, head_dim],
        queries: LANES * ROWS,
        subgroup: None,
    })
}
