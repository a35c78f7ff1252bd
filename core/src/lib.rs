//! Pixel-space diffusion transformers ([JiT](https://arxiv.org/abs/2511.13720),
//! [PixelGen](https://arxiv.org/abs/2602.02493)) without std and without an allocator.
//!
//! The caller owns everything: the model file's bytes, the activation arena, the threads, the image. An image is drawn
//! in four steps:
//!
//! ```no_run
//! use core::ops::ControlFlow;
//! use denoir_core::{cpu::{Cpu, Isa}, gguf::Gguf, jit::{JitModel, JitPlan}, noise::Rng};
//! use denoir_core::{Denoiser, Job, Precision, Serial, sampler::Settings};
//!
//! # fn draw(file: &[u8], arena: &mut [u8], image: &mut [f32]) -> Result<(), Box<dyn core::error::Error>> {
//! let gguf = Gguf::parse(file)?;                              // checks the whole header
//! let model = JitModel::from_gguf(&gguf)?;                    // views of the weights; nothing is copied
//! let plan = JitPlan::new(&model, 1, Precision::WIDE)?;       // plan.arena_bytes: how much memory a batch of 1 needs
//! let cpu = Cpu::new(file, arena, &Serial, Isa::detect())?;    // both start at multiples of 64
//!
//! let settings = Settings::from_gguf(&gguf)?;                 // the preset that the conversion stored
//! let job = Job { settings: &settings, condition: &[7][..], seeds: &[42], rng: Rng::Torch };
//! Denoiser::new(&model, plan, cpu)?.generate(&job, image, &mut |progress| {
//!     let _preview = progress.x_hat()?;                       // read from the device if anyone looks
//!     ControlFlow::Continue(())
//! })?;                                                        // image: (1, C, H, W), about -1 to 1
//! # Ok(()) }
//! ```
//!
//! [`ops`] is the seam between networks and devices, [`backend`] what a device must do, [`cpu`] the one that is here.
#![no_std]

pub mod backend;
pub mod checked;
pub mod cpu;
pub mod gguf;
pub mod models;
pub mod ops;
pub mod sampling;
pub mod self_test;
mod tensor;

pub use cpu::{Executor, Serial};
pub use models::network::Network;
pub use models::{ModelError, jit, network, params, plan, qwen3, t2i};
pub use sampling::{Denoiser, EVALUATE, Job, Prepared, Progress, RunError, noise, sampler};
pub use tensor::{DType, Modulation, Precision, Region, Rest, TokenLayout, View, Weight};

#[cfg(test)]
extern crate std;
