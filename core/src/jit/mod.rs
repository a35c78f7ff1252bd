//! JiT and PixelGen, class-conditional: "Back to Basics: Let Denoising Generative Models Denoise"
//! (arXiv 2511.13720) and "PixelGen" (arXiv 2602.02493).

mod config;
mod forward;
mod params;
mod plan;

pub use config::{JitConfig, MAX_DEPTH};
pub use forward::{forward, modulation};
pub use params::{BlockParams, JitModel, PatchEmbedParams};
pub use plan::{JitPlan, MAX_BATCH, PlanError, Precision};

/// RMSNorm's epsilon, everywhere.
pub const EPS: f32 = 1e-6;
/// Width of the sinusoidal timestep embedding.
pub const TIMESTEP_WIDTH: usize = 256;
/// Longest period of the timestep embedding; t itself stays in [0, 1].
pub const MAX_PERIOD: f64 = 10_000.0;
