//! Host code shared by the GPU backends: [`Weights`] on the device, and [`Faults`], with which tests make driver calls
//! fail.

mod faults;
mod weights;

pub use faults::{Calls, Fault, Faults};
pub use weights::{DeviceMemory, Weights, stride};
