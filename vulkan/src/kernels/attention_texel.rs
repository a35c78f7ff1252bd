//! Splits attention into workgroups for CPUs that run shaders.

use denoir_core::ops::Attention;

use super::cut::{AttentionCut, is_aligned};
use super::linear_texel::LANES;
use crate::shader::Shader;

/// Queries per invocation, and keys that it processes at once.
const ROWS: usize = 2;
const KEYS: usize = 8;
/// Maximum channels of a head: compilers take far longer for more.
const MAX_HEAD_DIM: usize = 64;

/// The workgroups of an attention; `None` if rows are unaligned, or heads are too long or do not fill these tiles.
pub(crate) fn cut(op: &Attention) -> Option<AttentionCut> {
    let head_dim = op.head_dim();
    let worth = op.queries.tokens() >= LANES * ROWS;
    let whole = head_dim <= MAX_HEAD_DIM && is_aligned(op);
    (worth && whole).then(|| AttentionCut {
        shader: Shader::AttentionTexel,
        constants: vec![LANES, ROWS, KEYS, head_dim],
        queries: LANES * ROWS,
        subgroup: None,
    })
}
