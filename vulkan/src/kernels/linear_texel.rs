//! Splits a product into workgroups for CPUs that run shaders.

use denoir_core::DType;
use denoir_core::ops::Linear;

use super::cut::{LinearCut, starts_at_texels};
use crate::launch::{element_type, word};
use crate::shader::Shader;

/// Invocations per workgroup, which such a device computes at once; and elements along K per step of an invocation.
pub(super) const LANES: usize = 8;
/// Rows per workgroup and columns per invocation.
const ROWS: usize = 32;
const COLS: usize = 8;

/// The workgroups of a product; `None` if its rows are not f32, are unaligned, or are too few to fill these tiles.
pub(crate) fn cut(op: &Linear) -> Option<LinearCut> {
    let worth = op.out.rows >= ROWS && op.out.cols >= LANES * COLS && op.x.cols >= 512;
    // Weights have their rows padded on the device.
    let whole = op.x.cols.is_multiple_of(LANES) && starts_at_texels(&op.x);
    let wide = matches!(op.w.data.dtype, DType::F32 | DType::F16 | DType::BF16);
    if op.x.dtype != DType::F32 || !worth || !whole || !wide {
        return None;
    }
    let constants = [LANES, ROWS, COLS].map(word).into_iter().chain([element_type(op.w.data.dtype)]);
    Some(LinearCut {
        shader: Shader::LinearTexel,
        constants: (0..).zip(constants).collect(),
        rows: ROWS,
        cols: LANES * COLS,
        vector: None,
        subgroup: None,
    })
}
