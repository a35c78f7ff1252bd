//! The CUDA backend: kernels for tensor cores of compute capability 8.0 and later. The driver is opened at run time, so a
//! program that has this crate starts on machines without one too, and is told [`Error::NoDriver`] there. Nothing of
//! CUDA but the driver is needed: the kernels are compiled already.
//!
//! [`devices`] lists what there is, [`Gpu::open`] opens a device and checks it against the reference, and
//! [`Gpu::backend`] gives a [`denoir_core::backend::Backend`]. Programs are captured in a graph once and replayed; what
//! changes from step to step is data in the arena.
//!
//! | module | contents |
//! |---|---|
//! | `calls` | the door to every call of the driver |
//! | `device`, `gpu` | the driver, devices, contexts; opening a device |
//! | `memory` | device memory |
//! | `stream` | copies and launches, in order |
//! | `modules` | compiled kernels |
//! | `args`, `launch`, `kernels` | from a descriptor to a launch |
//! | `tile` | tiles of linear layers |
//! | `backend` | the backend: programs as graphs |
//! | `timers`, `spans` | times by the device's clock |
//! | `self_test` | linear layers and attention against the reference |

mod args;
mod backend;
mod calls;
mod device;
mod error;
mod gpu;
mod kernels;
mod launch;
mod memory;
mod modules;
mod self_test;
mod spans;
mod stream;
mod tile;
mod timers;

pub use backend::Cuda;
pub use calls::{Fault, Faults};
pub use cudarc::driver::sys::CUresult;
pub use device::{DeviceInfo, devices};
pub use error::Error;
pub use gpu::{Gpu, Options};
pub use tile::LinearTile;
pub use timers::KernelTime;
