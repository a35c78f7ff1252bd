//! Work in progress.
#![no_std]

pub mod dtype;

pub use dtype::DType;
