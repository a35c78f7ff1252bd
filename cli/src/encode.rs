//! Encoders that build image files in memory.

mod animation;
mod npy;
mod png;
mod ppm;

pub(crate) use animation::{Animation, animate};
pub(crate) use npy::{header as npy_header, little_endian};
pub(crate) use png::{TextChunk, png};
pub(crate) use ppm::ppm;
