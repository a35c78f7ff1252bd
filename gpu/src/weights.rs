use std::collections::HashMap;
use std::sync::Arc;

use denoir_core::View;
use denoir_core::backend::ModelFile;

/// Rows of weights start at multiples of this, so that kernels load 16 bytes as one.
const ROW_ALIGN: usize = 16;
/// Tensors start at multiples of this: no device asks for more.
const ALIGN: usize = 256;
/// Bytes of a buffer that tensors share: a sixteenth of the file, within these bounds. What it leaves free at its end is
/// lost, and each buffer is an allocation, of which a device allows few.
const FEWEST_BYTES: usize = 64 << 10;
const MOST_BYTES: usize = 32 << 20;

/// A device's memory, and the copies into it.
pub trait DeviceMemory {
    /// An allocation.
    type Buffer;
    /// Where a matrix lies on the device.
    type Placed: Copy;
    /// What the device reports.
    type Error;

    /// A new allocation.
    ///
    /// # Errors
    /// What the device reports, above all that it is out of memory.
    fn allocate(&mut self, bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// Bytes of an allocation.
    fn len(buffer: &Self::Buffer) -> usize;

    /// A matrix of `bytes` bytes that starts at byte `at`, with rows `stride` elements apart.
    fn place(buffer: &Self::Buffer, at: usize, stride: usize, bytes: usize) -> Self::Placed;

    /// Copies rows to bytes that no kernel under way uses, each `pitch` bytes after the one before it; kernels that are
    /// launched later see them.
    ///
    /// # Errors
    /// What the device reports.
    fn fill<'r>(
        &mut self,
        buffer: &mut Self::Buffer,
        at: usize,
        pitch: usize,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Self::Error>;

    /// Makes sure that a buffer of streamed weights can be overwritten, or freed where it is to be `replaced`.
    ///
    /// # Errors
    /// What the device reports.
    fn release(&mut self, replaced: bool) -> Result<(), Self::Error>;
}

/// The weights on a device. Each comes when a kernel that needs it is recorded, with its rows padded, and stays.
///
/// Streamed weights go through buffers that the next kernels use again: an image needs those of the modulation a few
/// times, but they are a third of the network.
pub struct Weights<M: DeviceMemory> {
    file: Arc<dyn ModelFile>,
    resident: HashMap<View, M::Placed>,
    shared: Vec<Shared<M::Buffer>>,
    /// One for each operand of a kernel.
    streamed: Vec<M::Buffer>,
    /// Streamed operands of the kernel under way so far; `None`: operands stay.
    operands: Option<usize>,
}

/// A buffer of tensors, one after the other.
struct Shared<B> {
    buffer: B,
    /// Bytes that are taken.
    taken: usize,
}

impl<M: DeviceMemory> Weights<M> {
    /// None are on the device yet.
    pub fn new(file: Arc<dyn ModelFile>) -> Self {
        Weights { file, resident: HashMap::new(), shared: Vec::new(), streamed: Vec::new(), operands: None }
    }

    /// Bytes of the model file.
    pub fn file_bytes(&self) -> usize {
        self.file.bytes().len()
    }

    /// Whether the weights of the next kernels, which then run one by one, are streamed; otherwise they stay.
    pub fn stream(&mut self, streamed: bool) {
        self.operands = streamed.then_some(0);
    }

    /// Between two kernels: what was streamed for the first may be overwritten.
    pub fn next_kernel(&mut self) {
        self.operands = self.operands.map(|_| 0);
    }

    /// Where the matrix lies on the device; it is brought there where it is not yet.
    ///
    /// # Errors
    /// What the device reports.
    pub fn locate(&mut self, view: &View, memory: &mut M) -> Result<M::Placed, M::Error> {
        if let Some(placed) = self.resident.get(view) {
            return Ok(*placed);
        }
        let size = view.dtype.size();
        let row_bytes = view.cols * size;
        let pitch = if view.rows == 1 { row_bytes } else { row_bytes.next_multiple_of(ROW_ALIGN) };
        let (stride, bytes) = (pitch / size, pitch * view.rows);
        let file = Arc::clone(&self.file);
        let rows = view.rows_in(file.bytes());
        let placed = match self.operands {
            Some(operand) => {
                let buffer = self.streamed(operand, bytes, memory)?;
                memory.fill(buffer, 0, pitch, rows)?;
                let placed = M::place(buffer, 0, stride, bytes);
                self.operands = Some(operand + 1);
                placed
            }
            None => {
                let shared = self.shared(bytes, memory)?;
                memory.fill(&mut shared.buffer, shared.taken, pitch, rows)?;
                let placed = M::place(&shared.buffer, shared.taken, stride, bytes);
                shared.taken += bytes.next_multiple_of(ALIGN);
                self.resident.insert(*view, placed);
                placed
            }
        };
        file.has_read(view);
        Ok(placed)
    }

    /// The buffer of a streamed operand, which the kernel before no longer reads.
    fn streamed(&mut self, operand: usize, bytes: usize, memory: &mut M) -> Result<&mut M::Buffer, M::Error> {
        let fits = self.streamed.get(operand).is_some_and(|buffer| M::len(buffer) >= bytes);
        memory.release(!fits)?;
        if !fits {
            let larger = memory.allocate(bytes)?;
            match self.streamed.get_mut(operand) {
                Some(smaller) => *smaller = larger,
                None => self.streamed.push(larger),
            }
        }
        Ok(&mut self.streamed[operand])
    }

    /// A shared buffer with so much room.
    fn shared(&mut self, bytes: usize, memory: &mut M) -> Result<&mut Shared<M::Buffer>, M::Error> {
        let has_room = |shared: &Shared<M::Buffer>| shared.taken.saturating_add(bytes) <= M::len(&shared.buffer);
        let index = match self.shared.iter().position(has_room) {
            Some(index) => index,
            None => {
                let usual = (self.file_bytes() / 16).clamp(FEWEST_BYTES, MOST_BYTES);
                let buffer = memory.allocate(if bytes > usual / 2 { bytes } else { usual })?;
                self.shared.push(Shared { buffer, taken: 0 });
                self.shared.len() - 1
            }
        };
        Ok(&mut self.shared[index])
    }
}
