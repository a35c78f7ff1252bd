//! Work splits: how kernels with several shaders divide their output into workgroups.

use denoir_core::View;
use denoir_core::ops::Attention;

use crate::device::TEXEL_BYTES;
use crate::shader::Shader;

/// Channels that attention's shaders process at once.
pub(super) const PART: usize = 4;

/// The split of a product's output into workgroups.
pub(crate) struct LinearCut {
    pub(crate) shader: Shader,
    /// Specialisation constants: number and value.
    pub(crate) constants: Vec<(u32, u32)>,
    /// Rows and columns of `out` per workgroup.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Elements per vector load, and the constant that tells whether every row is aligned to that many.
    pub(crate) vector: Option<(usize, u32)>,
    /// The size of a subgroup, if the shader depends on it.
    pub(crate) subgroup: Option<u32>,
}

impl LinearCut {
    /// Workgroups for (m, n) results, in the order in which they start. With cooperative matrices those that run at once
    /// have the same columns: a card reads its weights from memory once.
    pub(crate) fn groups(&self, (m, n): (usize, usize)) -> [usize; 3] {
        let (down, across) = (m.div_ceil(self.rows), n.div_ceil(self.cols));
        match self.shader {
            Shader::LinearMatrix | Shader::LinearMatrixBf16 | Shader::LinearMatrixInt8 => [down, across, 1],
            _ => [across, down, 1],
        }
    }
}

/// The split of queries into workgroups.
pub(crate) struct AttentionCut {
    pub(crate) shader: Shader,
    /// Specialisation constants, from the first on.
    pub(crate) constants: Vec<usize>,
    /// Queries per workgroup.
    pub(crate) queries: usize,
    /// The size of a subgroup, if the shader depends on it.
    pub(crate) subgroup: Option<u32>,
}

/// Returns whether four channels of queries, keys and values can always be loaded at once.
pub(super) fn is_aligned(op: &Attention) -> bool {
    op.head_dim().is_multiple_of(PART) && [&op.q, &op.k, &op.v].into_iter().all(starts_at_texels)
}

/// Returns whether every row starts at a texel.
pub(super) fn starts_at_texels(view: &View) -> bool {
    view.offset.is_multiple_of(TEXEL_BYTES) && (view.stride * view.dtype.size()).is_multiple_of(TEXEL_BYTES)
}
