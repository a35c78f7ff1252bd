//! How the output of a kernel with several shaders is cut into workgroups.

use denoir_core::View;
use denoir_core::ops::Attention;

use crate::device::TEXEL_BYTES;
use crate::shader::Shader;

/// Channels that attention's shaders take at once.
pub(super) const PART: usize = 4;

/// How the output of a product is cut into workgroups.
pub(crate) struct LinearCut {
    pub(crate) shader: Shader,
    /// Specialisation constants: number and value.
    pub(crate) constants: Vec<(u32, u32)>,
    /// Rows and columns of `out` that a workgroup makes.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Elements that its vector loads take at once, and the constant that says whether every row starts at a multiple of
    /// so many.
    pub(crate) vector: Option<(usize, u32)>,
    /// The size of a subgroup, where the shader depends on it.
    pub(crate) subgroup: Option<u32>,
}

/// How queries are cut into workgroups.
pub(crate) struct AttentionCut {
    pub(crate) shader: Shader,
    /// Specialisation constants, from the first on.
    pub(crate) constants: Vec<usize>,
    /// Queries of a workgroup.
    pub(crate) queries: usize,
    /// The size of a subgroup, where the shader depends on it.
    pub(crate) subgroup: Option<u32>,
}

/// Whether four channels of queries, keys and values can be loaded as one wherever there are as many.
pub(super) fn is_aligned(op: &Attention) -> bool {
    op.head_dim().is_multiple_of(PART) && [&op.q, &op.k, &op.v].into_iter().all(starts_at_texels)
}

/// Whether every row starts where a texel does.
pub(super) fn starts_at_texels(view: &View) -> bool {
    view.offset.is_multiple_of(TEXEL_BYTES) && (view.stride * view.dtype.size()).is_multiple_of(TEXEL_BYTES)
}
