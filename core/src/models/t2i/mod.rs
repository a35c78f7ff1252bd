//! PixelGen, text to image (arXiv 2602.02493): image tokens attend to the image and to a text, which a few text blocks
//! have refined. The text blocks depend on the time but not on the image, so one refined text serves all images of a
//! batch, and so do its keys and values for every block.

mod config;
mod forward;
mod network;
mod params;
mod plan;

pub use config::T2iConfig;
pub use forward::{forward, modulation, refine, text_keys};
pub use network::{PromptEmbeds, Session};
pub use params::{JointBlock, T2iModel};
pub use plan::T2iPlan;
