//! From noise to images: noise, solvers, and the loop that drives a network through them.

mod denoiser;
pub mod noise;
pub mod sampler;

pub use denoiser::{Denoiser, EVALUATE, Job, Prepared, Progress, RunError};
