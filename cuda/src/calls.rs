//! The single path for every call of the driver.

use cudarc::driver::sys::CUresult;

use crate::Error;

/// Fault injection: [`denoir_gpu::Faults`] with the driver's results.
pub type Faults = denoir_gpu::Faults<CUresult>;
/// A call that is to fail.
pub type Fault = denoir_gpu::Fault<CUresult>;
/// The wrapper.
pub(crate) type Calls = denoir_gpu::Calls<CUresult>;

/// Makes a call and names it in its error.
pub(crate) trait Make {
    fn make(&self, name: &'static str, call: impl FnOnce() -> CUresult) -> Result<(), Error>;
}

impl Make for Calls {
    fn make(&self, name: &'static str, call: impl FnOnce() -> CUresult) -> Result<(), Error> {
        match self.fault(name).unwrap_or_else(call) {
            CUresult::CUDA_SUCCESS => Ok(()),
            result => Err(Error::of_call(name, result)),
        }
    }
}
