//! JiT and PixelGen, class-conditional: "Back to Basics: Let Denoising Generative Models Denoise"
//! (arXiv 2511.13720) and "PixelGen" (arXiv 2602.02493).

mod config;
mod forward;
mod network;
mod params;
mod plan;

pub use config::{JitConfig, MAX_DEPTH};
pub use forward::{forward, modulation};
pub use network::Session;
pub use params::JitModel;
pub use plan::JitPlan;

pub use crate::models::block::EPS;
pub use crate::models::params::BlockParams;
pub use crate::models::patches::{PatchEmbedParams, PatchPlan};
