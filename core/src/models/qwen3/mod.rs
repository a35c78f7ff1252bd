//! Qwen3 as a text encoder ("Qwen3 Technical Report", arXiv 2505.09388): the last hidden states of a prompt.

mod config;
mod encoder;
mod forward;
mod params;
mod plan;

pub use crate::models::params::Matrix;
pub use config::Qwen3Config;
pub use encoder::{EncodeError, Encoder, prompt_embeds};
pub use params::{LayerParams, Qwen3Model};
pub use plan::Qwen3Plan;
