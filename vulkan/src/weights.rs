//! The weights on the device.

use std::collections::HashMap;
use std::sync::Arc;

use denoir_core::View;
use denoir_core::backend::ModelFile;

use crate::Error;
use crate::launch::Placed;
use crate::memory::{Buffer, Place};
use crate::stream::Stream;

/// Rows of weights start at multiples of this, so that kernels load 16 bytes as one.
const ROW_ALIGN: usize = 16;
/// Tensors start at multiples of this: no device asks for more.
const ALIGN: usize = 256;
/// Bytes of a buffer that tensors share: a sixteenth of the file, within these bounds. What it leaves free at its end is
/// lost, and each buffer is an allocation, of which a device allows few.
const FEWEST_BYTES: usize = 64 << 10;
const MOST_BYTES: usize = 32 << 20;

/// The weights: each comes to the device when a kernel that needs it is recorded, with its rows padded, and stays.
/// Those of passing kernels go through memory that the next ones use again: an image needs them a few times, but they are
/// a third of the network.
pub(crate) struct Weights {
    file: Arc<dyn ModelFile>,
    resident: HashMap<View, Placed>,
    blocks: Vec<Block>,
    /// One for each operand of a passing kernel.
    passing: Vec<Buffer>,
    /// Operands of the kernel under way that have come; `None`: they stay.
    operands: Option<usize>,
}

/// A buffer of tensors, one after the other.
struct Block {
    buffer: Buffer,
    /// Bytes that are taken.
    taken: usize,
}

impl Weights {
    pub(crate) fn new(file: Arc<dyn ModelFile>) -> Weights {
        Weights { file, resident: HashMap::new(), blocks: Vec::new(), passing: Vec::new(), operands: None }
    }

    /// Bytes of the model file.
    pub(crate) fn len(&self) -> usize {
        self.file.bytes().len()
    }

    /// What the weights of the next kernels do: pass, each kernel running alone, or stay.
    pub(crate) fn pass(&mut self, passing: bool) {
        self.operands = passing.then_some(0);
    }

    /// After a kernel has run: what passed for it may be overwritten.
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
        let bytes = pitch * view.rows;
        let file = Arc::clone(&self.file);
        let rows = view.rows_in(file.bytes());
        let stride = pitch / size;
        let placed = match self.operands {
            Some(operand) => {
                let buffer = self.passing_buffer(operand, bytes, stream)?;
                fill(buffer, 0, pitch, rows, stream)?;
                let placed = buffer.place(0, stride, bytes);
                self.operands = Some(operand + 1);
                placed
            }
            None => {
                let block = self.block(bytes, stream)?;
                fill(&mut block.buffer, block.taken, pitch, rows, stream)?;
                let placed = block.buffer.place(block.taken, stride, bytes);
                block.taken += bytes.next_multiple_of(ALIGN);
                self.resident.insert(*view, placed);
                placed
            }
        };
        file.has_read(view);
        Ok(placed)
    }

    /// The buffer of a passing kernel's operand, which the kernel before it no longer reads.
    fn passing_buffer(&mut self, operand: usize, bytes: usize, stream: &mut Stream) -> Result<&mut Buffer, Error> {
        if self.passing.get(operand).is_none_or(|buffer| buffer.len() < bytes) {
            // A copy to the smaller one may be left from a failure.
            stream.submit(&[])?;
            stream.wait()?;
            let larger = Buffer::new(stream.device(), bytes, Place::Device)?;
            if operand < self.passing.len() {
                self.passing[operand] = larger;
            } else {
                self.passing.push(larger);
            }
        }
        // Passing kernels are waited for, so that this waits only after a failure.
        stream.wait()?;
        Ok(&mut self.passing[operand])
    }

    /// A block with so much room.
    fn block(&mut self, bytes: usize, stream: &Stream) -> Result<&mut Block, Error> {
        let has_room = |block: &Block| block.taken.saturating_add(bytes) <= block.buffer.len();
        let index = match self.blocks.iter().position(has_room) {
            Some(index) => index,
            None => {
                let shared = (self.len() / 16).clamp(FEWEST_BYTES, MOST_BYTES);
                let len = if bytes > shared / 2 { bytes } else { shared };
                let buffer = Buffer::new(stream.device(), len, Place::Device)?;
                self.blocks.push(Block { buffer, taken: 0 });
                self.blocks.len() - 1
            }
        };
        Ok(&mut self.blocks[index])
    }
}

/// Brings rows to bytes of a buffer that nothing under way uses: directly where the processor sees them, else before what is
/// submitted next.
fn fill<'r>(
    buffer: &mut Buffer,
    at: usize,
    pitch: usize,
    rows: impl ExactSizeIterator<Item = &'r [u8]>,
    stream: &mut Stream,
) -> Result<(), Error> {
    if !buffer.is_mapped() {
        return stream.write_rows(buffer.raw, at, pitch, rows);
    }
    // SAFETY: no kernel was told of what is not taken of a block, and passing kernels were waited for.
    let bytes = unsafe { buffer.bytes_mut(at..at + pitch * rows.len()) };
    bytes.chunks_mut(pitch.max(1)).zip(rows).for_each(|(place, row)| place[..row.len()].copy_from_slice(row));
    Ok(())
}
