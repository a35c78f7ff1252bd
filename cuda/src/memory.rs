//! Device memory, and the weights in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;
use denoir_core::View;
use denoir_core::backend::ModelFile;

use crate::Error;
use crate::device::Context;
use crate::stream::Stream;

/// Rows of weights start at multiples of this, so that kernels load 16 bytes as one.
const ROW_ALIGN: usize = 16;
/// Tensors start at multiples of this.
const ALIGN: usize = 256;
/// Bytes of memory that small tensors share, at most.
const POOL_BYTES: usize = 16 << 20;

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
        let made = context.calls.make("cuMemAlloc", || unsafe { sys::cuMemAlloc_v2(&mut at, len.max(ALIGN)) });
        made.map_err(|e| match e {
            Error::OutOfDeviceMemory { call, .. } => Error::OutOfDeviceMemory { call, bytes: len as u64 },
            other => other,
        })?;
        context.allocated.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Buffer { at, len, context: context.clone() })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: allocated in this context. Freeing waits for the device.
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

/// The weights: each comes to the device when a kernel that needs it is recorded, with its rows padded, and stays.
/// Those of passing kernels go through memory that the next ones use again: an image needs them a few times, but they are
/// a third of the network.
pub(crate) struct Weights {
    file: Arc<dyn ModelFile>,
    resident: HashMap<View, Placed>,
    large: Vec<Buffer>,
    pool: Vec<Buffer>,
    /// Bytes of the last buffer of the pool that are taken.
    taken: usize,
    /// One for each operand of a passing kernel.
    passing: Vec<Buffer>,
    /// Operands of the kernel under way that have come; `None`: they stay.
    operands: Option<usize>,
}

impl Weights {
    pub(crate) fn new(file: Arc<dyn ModelFile>) -> Weights {
        Weights {
            file,
            resident: HashMap::new(),
            large: Vec::new(),
            pool: Vec::new(),
            taken: 0,
            passing: Vec::new(),
            operands: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.file.bytes().len()
    }

    /// What the weights of the next kernels do: pass, or stay.
    pub(crate) fn pass(&mut self, passing: bool) {
        self.operands = passing.then_some(0);
    }

    /// Before each kernel: what passed for the one before it is no longer needed once it has run.
    pub(crate) fn next_kernel(&mut self) {
        self.operands = self.operands.map(|_| 0);
    }

    /// The view on the device; it is brought there where it is not yet.
    pub(crate) fn locate(&mut self, view: &View, stream: &mut Stream) -> Result<Placed, Error> {
        if let Some(placed) = self.resident.get(view) {
            return Ok(*placed);
        }
        let size = view.dtype.size();
        let row_bytes = view.cols * size;
        let pitch = if view.rows == 1 { row_bytes } else { row_bytes.next_multiple_of(ROW_ALIGN) };
        let bytes = (pitch * view.rows).next_multiple_of(ALIGN);
        let at = match &mut self.operands {
            Some(operand) => {
                *operand += 1;
                let operand = *operand - 1;
                self.passing_buffer(operand, bytes, stream)?
            }
            None => self.room(bytes, stream)?,
        };
        let file = Arc::clone(&self.file);
        let rows = view.rows_in(file.bytes());
        stream.write_rows(at, pitch, rows)?;
        file.has_read(view);
        let placed = Placed { at, stride: pitch / size };
        if self.operands.is_none() {
            self.resident.insert(*view, placed);
        }
        Ok(placed)
    }

    fn passing_buffer(&mut self, operand: usize, bytes: usize, stream: &Stream) -> Result<u64, Error> {
        if let Some(buffer) = self.passing.get(operand).filter(|buffer| buffer.len >= bytes) {
            return Ok(buffer.at);
        }
        let buffer = Buffer::new(stream.context(), bytes)?;
        let at = buffer.at;
        match self.passing.get_mut(operand) {
            // Freeing waits for the kernel that reads the smaller one.
            Some(smaller) => *smaller = buffer,
            None => self.passing.push(buffer),
        }
        Ok(at)
    }

    /// Room for a tensor that stays: small ones share buffers.
    fn room(&mut self, bytes: usize, stream: &Stream) -> Result<u64, Error> {
        if bytes > POOL_BYTES / 4 {
            let buffer = Buffer::new(stream.context(), bytes)?;
            let at = buffer.at;
            self.large.push(buffer);
            return Ok(at);
        }
        if self.pool.last().is_none_or(|last| self.taken + bytes > last.len) {
            let pool = self.len().clamp(bytes, POOL_BYTES);
            self.pool.push(Buffer::new(stream.context(), pool)?);
            self.taken = 0;
        }
        let start = self.pool.last().map_or(0, |last| last.at);
        self.taken += bytes;
        Ok(start + (self.taken - bytes) as u64)
    }
}
