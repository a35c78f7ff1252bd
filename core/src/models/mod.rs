//! The networks: weights as views into the model file, activations in one arena, forward passes as lists of kernels.

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
