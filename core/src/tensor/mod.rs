//! Matrices: their location, shape and element type.

mod dtype;
mod precision;
mod residual;
mod view;

pub use dtype::DType;
pub use precision::Precision;
pub use residual::QuantResidual;
pub use view::{Modulation, Region, TokenLayout, View, Weight};
