//! Matrices: their location, shape and element type.

mod dtype;
mod precision;
mod rest;
mod view;

pub use dtype::DType;
pub use precision::Precision;
pub use rest::Rest;
pub use view::{Modulation, Region, TokenLayout, View, Weight};
