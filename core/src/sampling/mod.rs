//! Sampling, from noise to images: noise generators, solvers, and the loop that drives a network.

mod denoiser;
pub mod noise;
pub mod sampler;

pub use denoiser::{Denoiser, EVALUATE, Job, Prepared, Progress, RunError};
