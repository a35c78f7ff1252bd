//! The CUDA backend: kernels for tensor cores of compute capability 8.0 and later. The driver is opened at run time, so
//! programs also start on machines without it, where this crate returns [`Error::NoDriver`]. The kernels are
//! precompiled, so only the driver is needed.
//!
//! [`devices`] lists the devices, [`Gpu::open`] opens a device and checks it against the reference, and
//! [`Gpu::backend`] creates a [`denoir_core::backend::Backend`]. Programs are captured once as a graph and replayed;
//! only data in the arena changes from step to step.
//!
//! | module | contents |
//! |---|---|
//! | `calls` | the wrapper around every driver call |
//! | `device`, `gpu` | the driver, devices, contexts; opening a device |
//! | `memory` | device memory |
//! | `stream` | copies and launches, in order |
//! | `modules` | compiled kernels |
//! | `args`, `launch`, `kernels` | turning descriptors into launches |
//! | `tile`, `cost` | tiles of linear layers, and how one is chosen |
//! | `backend` | the backend: programs as graphs |
//! | `plan` | launches without a device, for models of its speed |
//! | `timers`, `spans` | times by the device's clock |
//! | `self_test` | comparison of linear layers and attention with the reference |

mod args;
mod backend;
mod calls;
mod cost;
mod device;
mod error;
mod gpu;
mod kernels;
mod launch;
mod memory;
mod modules;
mod plan;
mod self_test;
mod spans;
mod stream;
mod tile;
mod timers;

pub use backend::Cuda;
pub use calls::{Fault, Faults};
pub use cost::products_per_clock;
pub use cudarc::driver::sys::{CUresult, CUstream};
pub use device::{DeviceInfo, devices};
pub use error::Error;
pub use gpu::{Gpu, Options};
pub use plan::{PlannedLaunch, PlannedProgram, Planner};
pub use tile::LinearTile;
pub use timers::KernelTime;
