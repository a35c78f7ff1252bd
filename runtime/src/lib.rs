//! Image generation with pixel-space diffusion transformers: [JiT](https://arxiv.org/abs/2511.13720) and
//! [PixelGen](https://arxiv.org/abs/2602.02493).
//!
//! ```
//! # fn main() -> Result<(), denoir::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/emoji.gguf");
//! use std::{ops::ControlFlow, sync::Arc};
//!
//! use denoir::{Condition, Model, Options, Pipeline, Request};
//!
//! let model = Arc::new(Model::open(path)?);
//! let mut pipeline = Pipeline::new(model.clone(), &Options::default())?;
//! let mut request = Request { seed: 42, ..Request::preset(&model, Condition::Labels(&[3])) };
//! request.settings.steps = 10;
//! let images = pipeline.generate(&request, &mut |progress| {
//!     println!("step {} of {}", progress.step, progress.steps);
//!     ControlFlow::Continue(())
//! })?;
//! let pixels: Vec<u8> = images[0].to_u8(model.rounding()); // (height, width, channels)
//! # assert_eq!(pixels.len(), images[0].sample.len());
//! # Ok(()) }
//! ```

mod backends;
mod bytes;
mod denoise;
mod device_memory;
mod error;
mod file;
mod image;
mod model;
mod network;
mod options;
mod pipeline;
mod pool;
mod request;
mod reserve;
mod sync;
mod system;
mod text_encoder;
mod tokenizer;

pub use denoir_core as core;
pub use denoir_core::cpu::Isa;
pub use denoir_core::noise::Rng;
pub use denoir_core::pixels::PixelFormat;
pub use denoir_core::sampler::{Method, Rounding, Settings};
pub use denoir_core::t2i::PromptEmbeds;
pub use denoir_core::{Job, Progress};

pub use backends::{Device, KernelTime, devices};
pub use bytes::AlignedBytes;
pub use denoise::{Condition, Denoise, Predict};
pub use device_memory::{CudaStream, DeviceMemory};
pub use error::{DeviceError, Error};
pub use file::{Loading, MappedFile};
pub use image::Image;
pub use model::Model;
pub use network::AnyNetwork;
pub use options::{BackendKind, Options};
pub use pipeline::{Pipeline, TakeImage};
pub use pool::Pool;
pub use request::Request;
pub use reserve::Reserve;
pub use text_encoder::{EncodedPrompt, HiddenStates, TextEncoder};
pub use tokenizer::{Tokenizer, TokenizerError};
