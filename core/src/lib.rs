//! Work in progress.
#![no_std]

pub mod backend;
pub mod checked;
pub mod cpu;
mod denoiser;
pub mod dtype;
pub mod error;
pub mod exec;
pub mod gguf;
pub mod jit;
pub mod noise;
pub mod ops;
pub mod sampler;
mod view;

pub use denoiser::{Denoiser, Job, Progress, RunError};
pub use dtype::DType;
pub use error::ModelError;
pub use exec::{Executor, Serial};
pub use view::{Modulation, Region, TokenLayout, View, Weight};

#[cfg(test)]
extern crate std;
