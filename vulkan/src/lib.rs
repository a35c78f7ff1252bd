//! The Vulkan backend: compute shaders on any vendor's device. The loader is opened at run time, so a program that has
//! this crate starts on machines without Vulkan too, and is told [`Error::NoLoader`] there.
//!
//! [`devices`] lists what there is, [`Gpu::open`] opens a device and checks its [`Tier`]s against the reference, and
//! [`Gpu::backend`] gives a [`denoir_core::backend::Backend`]. Programs are recorded once and replayed; what changes
//! from step to step is data in the arena.
//!
//! | module | what it holds |
//! |---|---|
//! | `calls` | the door to every `vk*` call that can fail |
//! | `instance`, `device`, `features` | the loader, devices and what each can do |
//! | `memory`, `weights` | buffers; the weights on the device |
//! | `stream` | the queue: copies and submissions |
//! | `recording`, `hazards` | recorded command buffers, barriers, the watchdog's limit |
//! | `pipelines`, `disk_cache`, `shader` | compiled kernels |
//! | `launch`, `kernels` | from a descriptor to a dispatch |
//! | `backend` | the backend: recorded programs |
//! | `gpu` | opening a device |
//! | `timers` | how long each kernel takes |
//! | `self_test` | each tier against the reference |

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
mod recording;
mod self_test;
mod shader;
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
pub use tier::{Tier, Tiers};
pub use timers::KernelTime;
