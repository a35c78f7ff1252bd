//! PixelGen, text to image (arXiv 2602.02493): image tokens attend to the image and to a text that a few blocks of its
//! own have refined. The text's blocks see the time but not the image, so the text is refined once for all images of a
//! batch, and with it every block's text keys and values.

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
