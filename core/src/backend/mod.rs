//! The interface between networks and devices: two memory regions, kernels, and programs that can be replayed.

mod contract;
mod recorder;
mod reference;
mod tapped;

pub use contract::{Backend, ModelFile, OpError, Program, Tap};
pub use recorder::{Recorder, run};
pub use tapped::{TapFn, Tapped};
