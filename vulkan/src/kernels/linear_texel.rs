//! Splits a product into workgroups for CPUs that run shaders.

use denoir_core::ops::Linear;

use super::cut::{LinearCut, starts_at_texels};
use crate::launch::{element_type, word};
use crate::shader::Shader;

/// Invocations per workgroup, which such a device computes at once; and elements along K per step of an invocation.
pub(super) const LANES: usize = 8;
/// Rows per workgroup and columns per invocation. Twice as many rows would save 3% of the time, but take half a minute
/// to compile, four times as long.
const ROWS: usize = 16;
const COLS: usize = 8;

/// The workgroups of a product; `None` if its rows are unaligned, or are too few to fill these tiles.
pub(crate) fn cut(op: &Linear) -> Option<LinearCut> {
    let worth = op.out.rows >= ROWS && op.out.cols >= LANES * COLS && op.x.cols >= 512;
    // Weights have their rows padded on the device.
    let whole = op.x.cols.is_multiple_of(LANES) && starts_at_texels(&op.x);
    if !worth || !whole {
        return None;
    }
    let types = [op.x.dtype, op.w.data.dtype].map(element_type);
    let constants = [LANES, ROWS, COLS].map(word).into_iter().chain(types);
    Some(LinearCut {
        shader: Shader::LinearTexel,
        constants: (0..).zip(constants).collect(),
        rows: ROWS,
        cols: LANES * COLS,
        vector: None,
        subgroup: None,
    })
}
