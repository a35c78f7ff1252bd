//! The weights on the device.

use denoir_gpu::DeviceMemory;

use crate::Error;
use crate::memory::{Buffer, Place, Placed};
use crate::stream::Stream;

/// The weights on the device.
pub(crate) type Weights = denoir_gpu::Weights<Stream>;

impl DeviceMemory for Stream {
    type Buffer = Buffer;
    type Placed = Placed;
    type Error = Error;

    fn allocate(&mut self, bytes: usize) -> Result<Buffer, Error> {
        Buffer::new(self.device(), bytes, Place::Device)
    }

    fn len(buffer: &Buffer) -> usize {
        buffer.len()
    }

    fn place(buffer: &Buffer, at: usize, stride: usize, bytes: usize) -> Placed {
        buffer.place(at, stride, bytes)
    }

    /// Writes directly if the buffer is mapped, otherwise before the next submission.
    fn fill<'r>(
        &mut self,
        buffer: &mut Buffer,
        at: usize,
        pitch: usize,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Error> {
        if !buffer.is_mapped() {
            return self.write_rows(buffer.raw, at, pitch, rows);
        }
        // SAFETY: `Weights` fills only bytes that no kernel was told of, and streamed buffers after `release`.
        let bytes = unsafe { buffer.bytes_mut(at..at + pitch * rows.len()) };
        bytes.chunks_mut(pitch.max(1)).zip(rows).for_each(|(to, row)| to[..row.len()].copy_from_slice(row));
        Ok(())
    }

    /// The host waits for kernels with streamed weights, so this waits only after a failure.
    fn release(&mut self, replaced: bool) -> Result<(), Error> {
        if replaced {
            // A copy to it may be left from a failure.
            self.submit(&[])?;
        }
        self.wait()
    }
}
