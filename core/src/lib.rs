//! Work in progress.
#![no_std]

pub mod checked;
pub mod dtype;
pub mod gguf;

pub use dtype::DType;
