//! The Vulkan backend: compute shaders for devices of any vendor. The loader is opened at run time, so programs also
//! start on machines without Vulkan, where this crate returns [`Error::NoLoader`].
//!
//! [`devices`] lists the devices, [`Gpu::open`] opens a device and checks its [`Tier`]s against the reference, and
//! [`Gpu::backend`] creates a [`denoir_core::backend::Backend`]. Programs are recorded once and replayed; only data in
//! the arena changes from step to step.
//!
//! | module | contents |
//! |---|---|
//! | `calls` | the wrapper around every `vk*` call that can fail |
//! | `instance`, `device`, `features`, `quirks` | the loader, devices, their capabilities and known faults |
//! | `memory`, `weights` | buffers; the weights on the device |
//! | `stream` | the queue: copies and submissions |
//! | `recording`, `hazards` | recorded command buffers, barriers, the watchdog's limit |
//! | `pipelines`, `disk_cache`, `shader` | compiled kernels |
//! | `launch`, `kernels` | turning descriptors into dispatches |
//! | `backend` | the backend: recorded programs |
//! | `gpu` | opening a device |
//! | `timers` | kernel times |
//! | `self_test` | comparison of each tier with the reference, and with the tiers below in speed |

mod backend;
mod calls;
mod device;
mod disk_cache;
mod error;
mod features;
mod gpu;
mod hazards;
mod instance;
mod kernels;
mod launch;
mod memory;
mod pipelines;
#[cfg(test)]
mod profiles;
mod quirks;
mod recording;
mod self_test;
mod shader;
#[cfg(test)]
mod spirv;
mod stream;
mod tier;
mod timers;
mod weights;

pub use ash::vk;
pub use backend::Vulkan;
pub use calls::{Fault, Faults};
pub use device::DeviceInfo;
pub use error::Error;
pub use gpu::{Gpu, Options, devices};
pub use instance::{Messages, Validation};
pub use tier::{Tier, Tiers, Unused};
pub use timers::KernelTime;
