//! What a program that uses CUDA itself shares with a pipeline.

use std::ffi::c_void;
use std::ops::Range;

use denoir_core::pixels::{DeviceImages, PixelFormat, Pixels};

use crate::{Error, Model};

/// A CUDA stream that the program made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaStream(usize);

impl CudaStream {
    /// Takes a `CUstream` or `cudaStream_t`.
    ///
    /// # Safety
    /// The stream lives for as long as pipelines made with it, and captures nothing while they draw.
    pub unsafe fn new(raw: *mut c_void) -> CudaStream {
        CudaStream(raw.addr())
    }

    /// The handle, which only the driver follows.
    #[cfg(feature = "cuda")]
    pub(crate) const fn raw<T>(self) -> *mut T {
        std::ptr::without_provenance_mut(self.0)
    }
}

/// Memory of a CUDA device that images are drawn into, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct DeviceMemory {
    at: u64,
    bytes: usize,
    format: PixelFormat,
    row_stride: Option<usize>,
}

impl DeviceMemory {
    /// Takes `bytes` bytes at a device's address, as `cuMemAlloc` or `cudaMalloc` gives it, a multiple of 4. `row_stride`:
    /// bytes from one line to the next, a multiple of 4; `None`: a line's own, 4 · width. What lies between lines stays as
    /// it is.
    ///
    /// # Safety
    /// It is memory of the device that a pipeline draws into it on: in the device's primary context, or in that of
    /// [`Options::cuda_stream`](crate::Options::cuda_stream). While a pipeline draws, nothing else uses it, but for work
    /// that the stream already has.
    pub const unsafe fn new(at: u64, bytes: usize, format: PixelFormat, row_stride: Option<usize>) -> DeviceMemory {
        DeviceMemory { at, bytes, format, row_stride }
    }

    /// Where these images of a model go; those before them have their places too.
    ///
    /// # Errors
    /// [`Error::Layout`] or [`Error::Room`].
    pub(crate) fn images(&self, model: &Model, which: Range<usize>) -> Result<DeviceImages, Error> {
        let (channels, side) = (model.network().channels(), model.network().input_size());
        let stride = self.row_stride.unwrap_or(side.saturating_mul(4));
        let pixels = Pixels { channels, height: side, width: side, stride };
        let images = DeviceImages { at: self.at, format: self.format, pixels, rounding: model.rounding() };
        let image_bytes = images.image_bytes().map_err(Error::Layout)?;
        let needed = image_bytes.saturating_mul(which.end);
        if needed > self.bytes {
            return Err(Error::Room { bytes: self.bytes, needed });
        }
        Ok(DeviceImages { at: self.at + (which.start * image_bytes) as u64, ..images })
    }
}
