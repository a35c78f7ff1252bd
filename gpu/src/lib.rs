//! What the GPU backends share on the host: [`Weights`] on the device, and [`Faults`], by which tests make a driver's
//! calls fail.

mod faults;
mod weights;

pub use faults::{Calls, Fault, Faults};
pub use weights::{DeviceMemory, Weights};
