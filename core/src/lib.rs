//! Pixel-space diffusion transformers ([JiT](https://arxiv.org/abs/2511.13720),
//! [PixelGen](https://arxiv.org/abs/2602.02493)) without std and without an allocator.
//!
//! The caller owns everything: the model file's bytes, the activation arena, the threads, the image. An image is drawn
//! in four steps:
//!
//! ```no_run
//! use core::ops::ControlFlow;
//! use denoir_core::{cpu::{Cpu, Isa}, gguf::Gguf, jit::{JitModel, JitPlan}, noise::Rng};
//! use denoir_core::{Denoiser, Job, Serial, sampler::Settings};
//!
//! # fn draw(file: &[u8], arena: &mut [u8], image: &mut [f32]) -> Result<(), Box<dyn core::error::Error>> {
//! let gguf = Gguf::parse(file)?;                              // checks the whole header
//! let model = JitModel::from_gguf(&gguf)?;                    // views of the weights; nothing is copied
//! let isa = Isa::detect();
//! let plan = JitPlan::new(&model, 1, isa.precision())?;       // plan.arena_bytes: how much memory a batch of 1 needs
//! let cpu = Cpu::new(file, arena, Serial, isa)?;              // both start at multiples of 64
//!
//! let settings = Settings::from_gguf(&gguf)?;                 // the preset that the conversion stored
//! let job = Job { settings: &settings, condition: &[7][..], seeds: &[42], rng: Rng::Torch };
//! Denoiser::new(&model, plan, cpu)?.generate(&job, image, &mut |progress| {
//!     let _preview = progress.x_hat;
//!     ControlFlow::Continue(())
//! })?;                                                        // image: (1, C, H, W), about -1 to 1
//! # Ok(()) }
//! ```
//!
//! [`ops`] is the seam between networks and devices, [`backend`] what a device must do, [`cpu`] the one that is here.
#![no_std]

pub mod backend;
mod block;
pub mod checked;
pub mod cpu;
mod denoiser;
pub mod dtype;
pub mod error;
pub mod exec;
pub mod gguf;
pub mod jit;
pub mod network;
pub mod noise;
pub mod ops;
pub mod params;
pub mod plan;
pub mod qwen3;
pub mod sampler;
pub mod self_test;
pub mod t2i;
mod view;

pub use denoiser::{Denoiser, Job, Progress, RunError};
pub use dtype::DType;
pub use error::ModelError;
pub use exec::{Executor, Serial};
pub use network::Network;
pub use view::{Modulation, Region, TokenLayout, View, Weight};

#[cfg(test)]
extern crate std;
