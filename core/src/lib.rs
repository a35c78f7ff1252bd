//! Work in progress.
#![no_std]

pub mod dtype;
pub mod exec;
pub mod ops;
mod view;

pub use dtype::DType;
pub use exec::{Executor, Serial};
pub use view::{Modulation, Region, TokenLayout, View, Weight};
