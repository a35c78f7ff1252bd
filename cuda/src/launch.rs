//! Turns a kernel's descriptor into a launch: addresses, arguments, grids.

use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::{Pod, bytes_of, cast_slice_mut};
use denoir_core::backend::ModelFile;
use denoir_core::{Modulation, Region, View};

use crate::Error;
use crate::args::{AnyMatrix, Matrix, element_type, word};
use crate::device::{Context, DeviceInfo};
use crate::memory::{Buffer, Placed, Weights};
use crate::modules::{Kernel, Modules};
use crate::stream::{ARGUMENT_WORDS, Launch, Stream};
use crate::tile::LinearTile;

/// Threads per block for kernels with one element per thread.
pub(crate) const LINE_THREADS: u32 = 256;
/// Threads per block for kernels with one block per row.
pub(crate) const ROW_THREADS: u32 = 256;
/// Maximum columns for kernels with one block per row, and for those that norm it: `rows.cuh`.
pub(crate) const MOST_COLUMNS: usize = 8192;
pub(crate) const NORMED_COLUMNS: usize = 4096;
/// Blocks along x, y and z that every device allows.
const MOST_BLOCKS: [usize; 3] = [(1 << 31) - 1, 65535, 65535];

/// The number of blocks for one element per thread. Kernels count elements in 32 bits, including those of the last
/// block.
pub(crate) fn line(elements: usize) -> Result<[usize; 3], Error> {
    let limit = u32::MAX - LINE_THREADS;
    if elements > limit as usize {
        return Err(Error::TooLarge { what: "a kernel's output", size: elements as u64, limit: limit.into() });
    }
    Ok([elements.div_ceil(LINE_THREADS as usize), 1, 1])
}

/// The blocks for rows of at most so many columns, one a row, which holds the row in registers.
pub(crate) fn rows(rows: usize, cols: usize, most: usize) -> Result<[usize; 3], Error> {
    if cols > most {
        return Err(Error::TooLarge { what: "a row", size: cols as u64, limit: most as u64 });
    }
    Ok([rows, 1, 1])
}

/// What descriptors become launches for: a device, or the plan of one.
pub(crate) trait Target {
    /// The device.
    fn info(&self) -> &DeviceInfo;

    /// The only tile for linear layers, if a test sets one.
    fn tile(&self) -> Option<LinearTile>;

    /// Returns the location of a view on the device.
    fn locate(&mut self, view: &View) -> Result<Placed, Error>;

    /// Runs a kernel, or appends it to the open recording.
    fn enqueue(&mut self, kernel: &Kernel, grid: [u32; 3], args: &[u8]) -> Result<(), Error>;
}

impl dyn Target + '_ {
    /// Returns the location of a view on the device.
    fn place(&mut self, view: &View) -> Result<Placed, Error> {
        // Kernels count rows and columns in 32 bits, and elements of a row.
        let most = view.rows.max(view.stride);
        if u32::try_from(most).is_err() {
            let limit = u64::from(u32::MAX);
            return Err(Error::TooLarge { what: "a matrix", size: most as u64, limit });
        }
        self.locate(view)
    }

    /// A matrix of a type that the kernel knows.
    pub(crate) fn matrix(&mut self, view: &View) -> Result<Matrix, Error> {
        let Placed { at, stride } = self.place(view)?;
        Ok(Matrix { at, stride: word(stride), rows: word(view.rows) })
    }

    /// A matrix of any type.
    pub(crate) fn any_matrix(&mut self, view: &View) -> Result<AnyMatrix, Error> {
        let Placed { at, stride } = self.place(view)?;
        Ok(AnyMatrix { at, stride: word(stride), dtype: element_type(view.dtype) })
    }

    /// A single row.
    pub(crate) fn row(&mut self, view: &View) -> Result<u64, Error> {
        Ok(self.place(view)?.at)
    }

    /// An optional single row.
    pub(crate) fn row_if(&mut self, view: Option<&View>) -> Result<u64, Error> {
        view.map_or(Ok(0), |view| self.row(view))
    }

    /// A modulation table and the rows that select from it.
    pub(crate) fn modulation(&mut self, modulation: &Modulation) -> Result<(Matrix, u64), Error> {
        Ok((self.matrix(&modulation.table)?, self.row(&modulation.rows)?))
    }

    /// Runs a kernel, or appends it to the open recording. An empty grid runs nothing.
    pub(crate) fn run<A: Pod>(&mut self, kernel: &Kernel, grid: [usize; 3], args: &A) -> Result<(), Error> {
        let mut blocks = [0; 3];
        for ((block, n), most) in blocks.iter_mut().zip(grid).zip(MOST_BLOCKS) {
            let too_large = Error::TooLarge { what: "a kernel's grid", size: n as u64, limit: most as u64 };
            *block = u32::try_from(n).ok().filter(|_| n <= most).ok_or(too_large)?;
        }
        if blocks.contains(&0) { Ok(()) } else { self.enqueue(kernel, blocks, bytes_of(args)) }
    }
}

/// The memory and the stream that kernels are launched on.
pub(crate) struct Launcher {
    /// First in drop order: it waits for the device.
    pub(crate) stream: Stream,
    pub(crate) weights: Weights,
    pub(crate) arena: Buffer,
    /// The only tile for linear layers, if a test sets one.
    tile: Option<LinearTile>,
    /// Name of the last kernel launched or recorded.
    pub(crate) last_kernel: &'static str,
    /// The open recording; without one, kernels run at once.
    open: Option<Vec<Launch>>,
    /// The device's own, shared by its backends.
    modules: Arc<Mutex<Modules>>,
    pub(crate) context: Arc<Context>,
}

// SAFETY: the handles in recorded launches are valid on any thread.
unsafe impl Send for Launcher {}
// SAFETY: `&self` only reads sizes.
unsafe impl Sync for Launcher {}

impl Launcher {
    /// The context is current.
    pub(crate) fn new(
        context: &Arc<Context>,
        modules: &Arc<Mutex<Modules>>,
        tile: Option<LinearTile>,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Launcher, Error> {
        Ok(Launcher {
            stream: Stream::new(context)?,
            weights: Weights::new(file, (!context.info.unified).then_some(context.info.memory_bytes)),
            arena: Buffer::new(context, arena_bytes)?,
            tile,
            last_kernel: "",
            open: None,
            modules: modules.clone(),
            context: context.clone(),
        })
    }

    /// Starts recording; weights of recorded kernels stay resident.
    pub(crate) fn open_recording(&mut self) {
        self.weights.stream(false);
        self.open = Some(Vec::new());
    }

    /// Stops recording, so that kernels run at once; returns the recording, if any.
    pub(crate) fn close_recording(&mut self) -> Option<Vec<Launch>> {
        self.weights.stream(false);
        self.open.take()
    }
}

impl Target for Launcher {
    fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    fn tile(&self) -> Option<LinearTile> {
        self.tile
    }

    fn locate(&mut self, view: &View) -> Result<Placed, Error> {
        match view.region {
            Region::Arena => Ok(Placed { at: self.arena.at + view.offset as u64, stride: view.stride }),
            Region::Weights => self.weights.locate(view, &mut self.stream),
        }
    }

    fn enqueue(&mut self, kernel: &Kernel, grid: [u32; 3], args: &[u8]) -> Result<(), Error> {
        let mut words = [0; ARGUMENT_WORDS];
        cast_slice_mut(&mut words)[..args.len()].copy_from_slice(args);
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let (function, overlaps) = (modules.function(kernel)?, modules.overlap());
        drop(modules);
        let Kernel { name, threads, shared, .. } = *kernel;
        let launch = Launch { name, function, grid, threads, shared, overlaps, args: words };
        self.last_kernel = name;
        match &mut self.open {
            Some(launches) => launches.push(launch),
            None => self.stream.launch(&launch)?,
        }
        Ok(())
    }
}
