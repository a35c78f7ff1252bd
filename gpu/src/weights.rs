use std::collections::HashMap;
use std::sync::Arc;

use denoir_core::View;
use denoir_core::backend::ModelFile;

/// Alignment of weight rows, so that kernels can load 16 bytes at once.
const ROW_ALIGN: usize = 16;
/// Alignment of tensors; no device requires more.
const ALIGN: usize = 256;
/// Size of a buffer from which tensors are sub-allocated: a sixteenth of the file, within these bounds. Free space at
/// the end of a buffer is wasted, but each buffer is one allocation, and devices allow few.
const FEWEST_BYTES: usize = 64 << 10;
const MOST_BYTES: usize = 32 << 20;
/// A device whose own memory is this many times the model file keeps all weights.
const KEEPING: u64 = 4;

/// Elements from one row of a weight matrix to the next, on the device.
pub fn stride(view: &View) -> usize {
    let size = view.dtype.size();
    if view.rows == 1 { view.cols } else { (view.cols * size).next_multiple_of(ROW_ALIGN) / size }
}

/// Memory of a device, and copies into it.
pub trait DeviceMemory {
    /// An allocation.
    type Buffer;
    /// The location of a matrix on the device.
    type Placed: Copy;
    /// Errors of the device.
    type Error;

    /// Allocates memory.
    ///
    /// # Errors
    /// Errors of the device, mainly out of memory.
    fn allocate(&mut self, bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// Size of an allocation in bytes.
    fn len(buffer: &Self::Buffer) -> usize;

    /// Locates a matrix of `bytes` bytes at byte `at`, with rows `stride` elements apart.
    fn place(buffer: &Self::Buffer, at: usize, stride: usize, bytes: usize) -> Self::Placed;

    /// Copies rows, `pitch` bytes apart, to memory that no running kernel uses. Kernels launched later see them.
    ///
    /// # Errors
    /// Errors of the device.
    fn fill<'r>(
        &mut self,
        buffer: &mut Self::Buffer,
        at: usize,
        pitch: usize,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Self::Error>;

    /// Waits until a buffer of streamed weights can be overwritten, or freed if it is `replaced`.
    ///
    /// # Errors
    /// Errors of the device.
    fn release(&mut self, replaced: bool) -> Result<(), Self::Error>;
}

/// The weights on a device. A resident weight is uploaded, with padded rows, when the first kernel that needs it is
/// recorded.
///
/// Streamed weights pass through buffers that the next kernels reuse: the modulation weights are a third of the
/// network, but an image needs them only once or twice. A device with memory to spare keeps them too.
pub struct Weights<M: DeviceMemory> {
    file: Arc<dyn ModelFile>,
    resident: HashMap<View, M::Placed>,
    shared: Vec<Shared<M::Buffer>>,
    /// Streaming buffers, one per operand of a kernel.
    streamed: Vec<M::Buffer>,
    /// Number of operands streamed for the current kernel; `None` if operands stay resident.
    operands: Option<usize>,
    /// Whether no weights are streamed.
    keeps_all: bool,
}

/// A buffer from which tensors are sub-allocated in order.
struct Shared<B> {
    buffer: B,
    /// Bytes in use.
    taken: usize,
}

impl<M: DeviceMemory> Weights<M> {
    /// Starts without any weights on the device. Weights are streamed only if the device shares the processor's memory
    /// or has less than four times the file's size: `memory` is what it has for itself.
    pub fn new(file: Arc<dyn ModelFile>, memory: Option<u64>) -> Self {
        let bytes = file.bytes().len() as u64;
        let keeps_all = memory.is_some_and(|memory| memory / KEEPING >= bytes);
        Weights { file, resident: HashMap::new(), shared: Vec::new(), streamed: Vec::new(), operands: None, keeps_all }
    }

    /// Size of the model file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.file.bytes().len()
    }

    /// Sets whether the next kernels run one by one, and their weights may be streamed, or are recorded.
    pub fn stream(&mut self, streamed: bool) {
        self.operands = (streamed && !self.keeps_all).then_some(0);
    }

    /// Marks the end of a kernel, whose streamed weights may then be overwritten.
    pub fn next_kernel(&mut self) {
        self.operands = self.operands.map(|_| 0);
    }

    /// Returns the matrix's location on the device, and uploads it first if necessary.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn locate(&mut self, view: &View, memory: &mut M) -> Result<M::Placed, M::Error> {
        if let Some(placed) = self.resident.get(view) {
            return Ok(*placed);
        }
        let stride = stride(view);
        let pitch = stride * view.dtype.size();
        let bytes = pitch * view.rows;
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

    /// Returns a buffer for a streamed operand, once the previous kernel no longer reads it.
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

    /// Returns a shared buffer with this much free space.
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
