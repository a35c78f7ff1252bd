//! What a device is to the engine: two regions of memory, kernels, and programs that can be replayed.

use crate::View;
use crate::ops::{Bounds, Kernels, OpError, Recorder};
use crate::plan::Precision;

/// A list of kernels whose arguments never change, so that a device can record it once and replay it. What does
/// change between runs is data in the arena, written with [`Backend::write`] before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// Modulation vectors of a chunk of time points.
    Modulation {
        /// Time points.
        times: usize,
        /// Variants of each, such as labels.
        variants: usize,
    },
    /// The texts of a job through the blocks that are their own, at one time.
    Refine {
        /// Prompts, the negative one last.
        texts: usize,
    },
    /// Keys and values of the refined texts, which evaluations at one time share.
    TextKeys {
        /// Prompts, the negative one last.
        texts: usize,
    },
    /// Prompts through the text encoder.
    Encode,
    /// One evaluation of the network alone.
    Predict {
        /// Images in the pass.
        images: usize,
    },
    /// One evaluation of the network and the solver's step after it.
    Evaluate {
        /// Images in the batch.
        images: usize,
        /// Whether the null branch is evaluated as well.
        guided: bool,
    },
}

/// A model file that a device brings weights from, one by one, for as long as it may need more of them.
pub trait ModelFile: Send + Sync {
    /// The file's bytes: always the same.
    fn bytes(&self) -> &[u8];

    /// Told of each matrix that is on the device now: its pages can be given back, and a device that shares the
    /// processor's memory then holds it once. It may be read again.
    fn has_read(&self, _matrix: &View) {}
}

impl<T: AsRef<[u8]> + Send + Sync> ModelFile for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// A device that runs the kernels.
///
/// # Safety
/// [`Backend::bounds`] are the true sizes of the regions that the kernels read and write: core checks every
/// descriptor against them and the kernels trust it.
pub unsafe trait Backend: Kernels {
    /// The activation types that this device wants at linear layers.
    fn precision(&self) -> Precision;

    /// The sizes of both regions in bytes.
    fn bounds(&self) -> Bounds;

    /// Opens a program. `true`: its kernels follow, to be run or recorded. `false`: it is recorded already, and
    /// [`Backend::submit`] follows at once.
    ///
    /// # Errors
    /// What the device reports.
    fn begin(&mut self, program: Program) -> Result<bool, Self::Error>;

    /// Closes the program and runs it. Work that follows sees its results; the host sees them after a read.
    ///
    /// # Errors
    /// What the device reports.
    fn submit(&mut self, program: Program) -> Result<(), Self::Error>;

    /// Copies `bytes` to the start of an arena view without padding.
    ///
    /// # Errors
    /// What the device reports.
    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Copies from the start of an arena view without padding, after all submitted work.
    ///
    /// # Errors
    /// What the device reports.
    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

// SAFETY: the backend's own bounds.
unsafe impl<B: Backend + ?Sized> Backend for &mut B {
    fn precision(&self) -> Precision {
        (**self).precision()
    }

    fn bounds(&self) -> Bounds {
        (**self).bounds()
    }

    fn begin(&mut self, program: Program) -> Result<bool, Self::Error> {
        (**self).begin(program)
    }

    fn submit(&mut self, program: Program) -> Result<(), Self::Error> {
        (**self).submit(program)
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).write(view, bytes)
    }

    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(view, bytes)
    }
}

/// Runs a program, recording its kernels where the backend has no recording of it.
///
/// # Errors
/// What a descriptor's check or the device reports.
pub fn run<B: Backend + ?Sized>(
    backend: &mut B,
    program: Program,
    record: impl FnOnce(&mut Recorder<'_, B>) -> Result<(), OpError<B::Error>>,
) -> Result<(), OpError<B::Error>> {
    if backend.begin(program).map_err(OpError::Device)? {
        let bounds = backend.bounds();
        // SAFETY: the backend's own bounds, which its trait promises to be true.
        record(&mut unsafe { Recorder::new(backend, bounds) })?;
    }
    backend.submit(program).map_err(OpError::Device)
}
