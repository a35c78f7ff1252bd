//! The table of cases: one file per kernel, with the kernel's stem.

mod attention;
mod causal_attention;
mod class_condition;
mod context_tokens;
mod dequantize_blocks;
mod gather_rows;
mod layer_norm;
mod linear;
mod norm_modulate;
mod patchify;
mod qk_norm_rope;
mod quantize_rows;
mod rms_norm;
mod solver_step;
mod swiglu;
mod unpatchify;

use denoir_core::ops::Centre;
use denoir_core::{DType, View};

use super::case::Tolerance;
use super::table::Table;

/// The types of activations that a linear layer takes.
const ACTIVATIONS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];
/// The types of tables of embeddings.
const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The cases of the kernel of this stem; none of a kernel that has no file here.
pub fn of(kernel: &str) -> Table {
    let mut table = Table::default();
    match kernel {
        "attention" => attention::cases(&mut table),
        "causal_attention" => causal_attention::cases(&mut table),
        "class_condition" => class_condition::cases(&mut table),
        "context_tokens" => context_tokens::cases(&mut table),
        "dequantize_blocks" => dequantize_blocks::cases(&mut table),
        "gather_rows" => gather_rows::cases(&mut table),
        "layer_norm" => layer_norm::cases(&mut table),
        "linear" => linear::cases(&mut table),
        "norm_modulate" => norm_modulate::cases(&mut table),
        "patchify" => patchify::cases(&mut table),
        "qk_norm_rope" => qk_norm_rope::cases(&mut table),
        "quantize_rows" => quantize_rows::cases(&mut table),
        "rms_norm" => rms_norm::cases(&mut table),
        "solver_step" => solver_step::cases(&mut table),
        "swiglu" => swiglu::cases(&mut table),
        "unpatchify" => unpatchify::cases(&mut table),
        _ => {}
    }
    table
}

/// A producer's outputs for a centre.
fn centre_outputs(centre: &Centre, value: Tolerance, row: Tolerance) -> [(View, Tolerance); 3] {
    [(centre.row, row), (centre.scale, value.of_scale()), (centre.value, value)]
}
