//! The single path for every `vk*` call that can fail.

use ash::vk;

use crate::Error;

/// Fault injection: [`denoir_gpu::Faults`] with Vulkan's results.
pub type Faults = denoir_gpu::Faults<vk::Result>;
/// A call that is to fail.
pub type Fault = denoir_gpu::Fault<vk::Result>;
/// The wrapper.
pub(crate) type Calls = denoir_gpu::Calls<vk::Result>;

/// Makes a call and names it in its error.
pub(crate) trait Make {
    fn make<T>(&self, name: &'static str, call: impl FnOnce() -> Result<T, vk::Result>) -> Result<T, Error>;
}

impl Make for Calls {
    fn make<T>(&self, name: &'static str, call: impl FnOnce() -> Result<T, vk::Result>) -> Result<T, Error> {
        let result = self.fault(name).map_or_else(call, Err);
        result.map_err(|result| Error::of_call(name, result))
    }
}
