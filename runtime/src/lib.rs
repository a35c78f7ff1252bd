//! Image generation with pixel-space diffusion transformers: [JiT](https://arxiv.org/abs/2511.13720) and
//! [PixelGen](https://arxiv.org/abs/2602.02493).
//!
//! ```
//! # fn main() -> Result<(), denoir::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/emoji.gguf");
//! use std::{ops::ControlFlow, sync::Arc};
//!
//! let model = Arc::new(denoir::Model::open(path)?);
//! let mut pipeline = denoir::Pipeline::new(model.clone(), &denoir::Options::default())?;
//! let mut request = denoir::Request { labels: vec![3], seed: 42, ..denoir::Request::preset(&model) };
//! request.settings.steps = 10;
//! let images = pipeline.generate(&request, &mut |progress| {
//!     println!("step {} of {}", progress.step, progress.steps);
//!     ControlFlow::Continue(())
//! })?;
//! let pixels: Vec<u8> = images[0].to_u8(model.rounding()); // (height, width, channels)
//! # assert_eq!(pixels.len(), images[0].sample.len());
//! # Ok(()) }
//! ```

mod bytes;
#[cfg(feature = "cuda")]
mod cuda;
mod engine;
mod error;
mod file;
mod image;
mod model;
mod network;
mod packed;
mod pipeline;
mod pool;
mod system;
mod text_encoder;
mod tokenizer;
#[cfg(feature = "vulkan")]
mod vulkan;

pub use denoir_core as core;
pub use denoir_core::cpu::Isa;
pub use denoir_core::noise::Rng;
pub use denoir_core::sampler::{Method, Rounding, Settings};

pub use bytes::AlignedBytes;
pub use engine::{Condition, Engine};
pub use error::{DeviceError, Error};
pub use file::MappedFile;
pub use image::Image;
pub use model::Model;
pub use network::Network;
pub use pipeline::{BackendKind, Device, KernelTime, Options, Pipeline, Progress, PromptEmbeds, Request, devices};
pub use pool::Pool;
pub use text_encoder::{HiddenStates, TextEncoder};
pub use tokenizer::{Tokenizer, TokenizerError};
