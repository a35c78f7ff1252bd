//! Pixel-space diffusion transformers ([JiT](https://arxiv.org/abs/2511.13720),
//! [PixelGen](https://arxiv.org/abs/2602.02493)) without std and without an allocator.
//!
//! The caller owns everything: the model file's bytes, one block of memory, the threads, the image. This is a whole
//! program's drawing, from a file in read-only memory into a static block:
//!
//! ```
//! use core::ops::ControlFlow;
//! use denoir_core::{cpu::{Cpu, Isa}, gguf::Gguf, jit::{JitModel, JitPlan}, network::Plan, noise::Rng};
//! use denoir_core::sampler::Settings;
//! use denoir_core::{Aligned, Denoiser, Error, Job, Room, Serial};
//!
//! # macro_rules! include_bytes { ($_:literal) => { *core::include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bare/tiny.gguf")) } }
//! static FILE: &Aligned<[u8]> = &Aligned(include_bytes!("tiny.gguf"));
//!
//! fn draw(memory: &mut [u8], image: &mut [f32]) -> Result<(), Error> {
//!     let (mut room, isa) = (Room::new(memory), Isa::detect());
//!     let gguf = Gguf::parse(&FILE.0)?;                                 // checks the whole header
//!     let model = JitModel::read_into(&gguf, room.place()?)?;           // views of the weights; nothing is copied
//!     let plan = JitPlan::new(model, 1, isa.precision())?;              // room for a batch of 1
//!     let scratch = room.bytes(isa.scratch_bytes(plan.head_dim(), plan.int8(), 1))?;
//!     let arena = room.bytes(plan.arena_bytes)?;
//!     let cpu = Cpu::new(&FILE.0, arena, &Serial, isa)?.with_scratch(scratch);
//!     let settings = Settings::from_gguf(&gguf)?;                       // the preset that the conversion stored
//!     let job = Job { settings: &settings, condition: &[1][..], seeds: &[42], rng: Rng::Torch };
//!     Denoiser::new(model, plan, cpu)?.generate(&job, image, &mut |progress| {
//!         let _preview = progress.x_hat()?;                             // read only if anyone looks
//!         ControlFlow::Continue(())
//!     })?;                                                              // image: (1, C, H, W), about -1 to 1
//!     Ok(())
//! }
//! # let mut image = [0.0; 3 * 16 * 16];
//! # draw(&mut vec![0; 512 << 10], &mut image).unwrap();
//! # assert!(image.iter().all(|x| x.is_finite()));
//! ```
//!
//! [`pixels::Pixels`] makes bytes of the image. `Serial` draws on the calling thread; other threads come by an
//! [`Executor`]. Of the stack this takes less than 16 KiB on a Cortex-M4 and less than 72 KiB on a PC.
//!
//! Features leave out what a program does not need: `f16`, `bf16` and `int8` (with `f16`) are types of weights beside
//! f32, `text` is text-to-image networks and their encoder, `simd` is vector instructions. All are default.
//!
//! [`ops`] is the seam between networks and devices, [`backend`] what a device must do, [`cpu`] the one that is here.
#![no_std]

pub mod backend;
mod built;
pub mod checked;
pub mod cpu;
mod error;
pub mod gguf;
pub mod models;
pub mod ops;
pub mod pixels;
mod room;
pub mod sampling;
pub mod self_test;
mod tensor;

pub use cpu::{Executor, Serial};
pub use error::Error;
pub use models::network::Network;
pub use models::{ModelError, jit, network, params, plan, qwen3, t2i};
pub use room::{Aligned, NoRoom, Room};
pub use sampling::{Denoiser, EVALUATE, Job, Prepared, Progress, RunError, noise, sampler};
pub use tensor::{DType, Modulation, Precision, QuantResidual, Region, TokenLayout, View, Weight};

#[cfg(test)]
extern crate std;
