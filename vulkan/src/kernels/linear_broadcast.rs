//! How a product is cut into workgroups on processors that run shaders.

use denoir_core::ops::Linear;
use denoir_core::{DType, View};

use super::linear::Cut;
use crate::launch::{element_type, word};
use crate::shader::Shader;

/// Invocations of a subgroup, and the elements along K that it takes at once.
pub(crate) const LANES: usize = 8;
/// Rows of a subgroup and columns of an invocation.
const ROWS: usize = 32;
const COLS: usize = 8;

/// The workgroups of a product; `None` where it has no f32 rows, too few to fill these tiles, or unaligned ones.
pub(crate) fn cut(op: &Linear) -> Option<Cut> {
    let worth = op.out.rows >= ROWS && op.out.cols >= LANES * COLS && op.x.cols >= 512;
    let aligned = |view: &View| view.offset.is_multiple_of(16) && view.stride.is_multiple_of(4);
    let whole = op.x.cols.is_multiple_of(LANES) && aligned(&op.x) && aligned(&op.w.data);
    if op.x.dtype != DType::F32 || !worth || !whole {
        return None;
    }
    let (x, w) = (element_type(op.x.dtype), element_type(op.w.data.dtype));
    Some(Cut {
        shader: Shader::LinearBroadcast,
        constants: vec![(0, word(LANES)), (1, word(ROWS)), (2, word(COLS)), (5, x), (6, w)],
        rows: ROWS,
        cols: LANES * COLS,
        vector: 4,
        aligned: 7,
        subgroup: None,
    })
}
