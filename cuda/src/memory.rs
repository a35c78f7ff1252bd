//! Device memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;
use denoir_gpu::DeviceMemory;

use crate::Error;
use crate::calls::Make;
use crate::device::Context;
use crate::stream::Stream;

/// The driver rejects empty allocations.
const FEWEST_BYTES: usize = 256;

/// Memory of the device.
pub(crate) struct Buffer {
    pub(crate) at: u64,
    pub(crate) len: usize,
    context: Arc<Context>,
}

impl Buffer {
    /// The context is current.
    pub(crate) fn new(context: &Arc<Context>, len: usize) -> Result<Buffer, Error> {
        let mut at = 0;
        // SAFETY: the pointer is to a local.
        let made = context.calls.make("cuMemAlloc", || unsafe { sys::cuMemAlloc_v2(&mut at, len.max(FEWEST_BYTES)) });
        made.map_err(|e| match e {
            Error::OutOfDeviceMemory { call, .. } => {
                let (mut free, mut all) = (0, 0);
                // SAFETY: the pointers are to locals.
                let asked = unsafe { sys::cuMemGetInfo_v2(&mut free, &mut all) };
                let free = (asked == sys::CUresult::CUDA_SUCCESS).then_some(free as u64);
                Error::OutOfDeviceMemory { call, bytes: len as u64, free }
            }
            other => other,
        })?;
        context.allocated.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Buffer { at, len, context: context.clone() })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: allocated in this context. Whoever drops it has waited for the kernels that use it.
        let _ = unsafe { sys::cuMemFree_v2(self.at) };
        self.context.allocated.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

/// A matrix on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) at: u64,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
}

/// The weights on the device.
pub(crate) type Weights = denoir_gpu::Weights<Stream>;

impl DeviceMemory for Stream {
    type Buffer = Buffer;
    type Placed = Placed;
    type Error = Error;

    fn allocate(&mut self, bytes: usize) -> Result<Buffer, Error> {
        Buffer::new(self.context(), bytes)
    }

    fn len(buffer: &Buffer) -> usize {
        buffer.len
    }

    fn place(buffer: &Buffer, at: usize, stride: usize, _bytes: usize) -> Placed {
        Placed { at: buffer.at + at as u64, stride }
    }

    fn fill<'r>(
        &mut self,
        buffer: &mut Buffer,
        at: usize,
        pitch: usize,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Error> {
        self.write_rows(buffer.at + at as u64, pitch, rows)
    }

    /// Copies follow the kernels launched before them; a buffer may be freed only once those have ended.
    fn release(&mut self, replaced: bool) -> Result<(), Error> {
        if replaced { self.wait() } else { Ok(()) }
    }
}
