//! The networks: weights are views into the model file, activations share one arena, and forward passes are lists of
//! kernels.

mod block;
mod error;
pub mod jit;
pub mod network;
pub mod params;
mod patches;
pub mod plan;
pub mod qwen3;
pub mod t2i;

pub use error::ModelError;
