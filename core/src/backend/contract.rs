use crate::View;
use crate::ops::{Bounds, InvalidOp, Op};
use crate::tensor::Precision;

/// A device that runs the kernels on two regions of memory: the model file and the arena.
///
/// # Safety
/// [`Backend::bounds`] must be the true sizes of the regions: every descriptor is checked against them before it
/// reaches [`Backend::kernel`], which trusts it.
pub unsafe trait Backend {
    /// The device's error type.
    type Error;

    /// The activation types and kernel forms that this device prefers.
    fn precision(&self) -> Precision;

    /// The sizes of both regions in bytes.
    fn bounds(&self) -> Bounds;

    /// Begins a program. Returns `true` if the caller must now pass its kernels, to be run or recorded, or `false` if
    /// it is already recorded and [`Backend::submit`] follows at once.
    ///
    /// # Errors
    /// Errors of the device.
    fn begin(&mut self, program: Program) -> Result<bool, Self::Error>;

    /// Runs a kernel, or appends it to the open recording.
    ///
    /// # Errors
    /// Errors of the device.
    /// # Safety
    /// `op` must have passed [`Op::check`] against [`Backend::bounds`].
    unsafe fn kernel(&mut self, op: &Op) -> Result<(), Self::Error>;

    /// Ends the program and runs it. Later work on the device sees its results; the host sees them after a read.
    ///
    /// # Errors
    /// Errors of the device.
    fn submit(&mut self, program: Program) -> Result<(), Self::Error>;

    /// Copies `bytes` into the arena, from byte `at` on.
    ///
    /// # Errors
    /// Errors of the device.
    /// # Safety
    /// `at + bytes.len()` must lie within the arena.
    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Copies bytes out of the arena, from byte `at` on, after all submitted work.
    ///
    /// # Errors
    /// Errors of the device.
    /// # Safety
    /// `at + bytes.len()` must lie within the arena.
    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Shows a named intermediate tensor to tools that compare passes; does nothing by default.
    ///
    /// # Errors
    /// Errors of the device.
    fn tap(&mut self, _tap: Tap, _view: &View) -> Result<(), OpError<Self::Error>> {
        Ok(())
    }

    /// Copies `bytes` to the start of an arena view whose rows are not padded.
    ///
    /// # Errors
    /// [`OpError::Invalid`] if the bytes do not fit the view or the view does not fit the arena, or an error of the
    /// device.
    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), OpError<Self::Error>> {
        self.bounds().transfer("write", view, bytes.len())?;
        // SAFETY: `transfer` found the view inside the arena, and the bytes inside the view.
        unsafe { self.upload(view.offset, bytes) }.map_err(OpError::Device)
    }

    /// Copies from the start of an arena view whose rows are not padded, after all submitted work.
    ///
    /// # Errors
    /// As [`Backend::write`].
    fn read(&mut self, view: &View, bytes: &mut [u8]) -> Result<(), OpError<Self::Error>> {
        self.bounds().transfer("read", view, bytes.len())?;
        // SAFETY: `transfer` found the view inside the arena, and the bytes inside the view.
        unsafe { self.download(view.offset, bytes) }.map_err(OpError::Device)
    }
}

// SAFETY: every method is the backend's own, and so are its bounds.
unsafe impl<B: Backend> Backend for &mut B {
    type Error = B::Error;

    fn precision(&self) -> Precision {
        (**self).precision()
    }

    fn bounds(&self) -> Bounds {
        (**self).bounds()
    }

    fn begin(&mut self, program: Program) -> Result<bool, B::Error> {
        (**self).begin(program)
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), B::Error> {
        // SAFETY: the caller checked `op` against `bounds`, which are the same.
        unsafe { (**self).kernel(op) }
    }

    fn submit(&mut self, program: Program) -> Result<(), B::Error> {
        (**self).submit(program)
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), B::Error> {
        // SAFETY: the caller promises that the bytes fit the arena, which is the same.
        unsafe { (**self).upload(at, bytes) }
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), B::Error> {
        // SAFETY: the caller promises that the bytes fit the arena, which is the same.
        unsafe { (**self).download(at, bytes) }
    }

    fn tap(&mut self, tap: Tap, view: &View) -> Result<(), OpError<B::Error>> {
        (**self).tap(tap, view)
    }
}

/// The key of a list of kernels whose arguments never change, so that a device can record the list once and replay it.
/// Equal keys stand for equal kernels. Only data in the arena, written with [`Backend::write`], changes between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The program's name, given by its network.
    pub name: &'static str,
    /// The counts that the kernels depend on.
    pub sizes: [usize; 2],
    /// Whether it runs often enough to be recorded, and its weights to be kept at hand. Otherwise each of its kernels
    /// runs at once, and reads its weights once.
    pub replayed: bool,
    /// Whether somebody looks at tensors between its kernels, so that it must not be recorded.
    pub watched: bool,
}

impl Program {
    /// A program that runs about once per evaluation.
    pub const fn replayed(name: &'static str, sizes: [usize; 2]) -> Program {
        Program { name, sizes, replayed: true, watched: false }
    }

    /// A program that runs a few times per image.
    pub const fn once(name: &'static str, sizes: [usize; 2]) -> Program {
        Program { name, sizes, replayed: false, watched: false }
    }

    /// Whether a device that records programs records this one.
    pub const fn is_recorded(&self) -> bool {
        self.replayed && !self.watched
    }
}

/// The name of an intermediate tensor, and the number of the block that outputs it, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The tensor's name.
    pub name: &'static str,
    /// The block's number.
    pub block: Option<usize>,
}

impl From<&'static str> for Tap {
    fn from(name: &'static str) -> Tap {
        Tap { name, block: None }
    }
}

impl From<(&'static str, usize)> for Tap {
    fn from((name, block): (&'static str, usize)) -> Tap {
        Tap { name, block: Some(block) }
    }
}

impl core::fmt::Display for Tap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)?;
        self.block.map_or(Ok(()), |block| write!(f, ".{block}"))
    }
}

/// Why a kernel or a copy did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpError<E> {
    /// The descriptor does not fit its regions: a bug in the calling code, never caused by a model file.
    Invalid(InvalidOp),
    /// The device lacks this form of the kernel: [`Backend::precision`] excludes it.
    Form(&'static str),
    /// The device failed.
    Device(E),
}

impl<E> OpError<E> {
    /// Converts the device's error, for code that supports several backends.
    pub fn map_device<F>(self, wrap: impl FnOnce(E) -> F) -> OpError<F> {
        match self {
            OpError::Invalid(e) => OpError::Invalid(e),
            OpError::Form(form) => OpError::Form(form),
            OpError::Device(e) => OpError::Device(wrap(e)),
        }
    }
}

impl<E> From<InvalidOp> for OpError<E> {
    fn from(e: InvalidOp) -> Self {
        OpError::Invalid(e)
    }
}

impl<E: core::fmt::Display> core::fmt::Display for OpError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OpError::Invalid(e) => e.fmt(f),
            OpError::Form(form) => write!(f, "the device has no kernel for {form}"),
            OpError::Device(e) => e.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for OpError<E> {}

/// The model file from which a device uploads weights one by one, for as long as it may need more of them.
pub trait ModelFile: Send + Sync {
    /// The file's bytes, which never change.
    fn bytes(&self) -> &[u8];

    /// Called for each matrix once it is on the device. Its pages can then be released, so that a device that shares
    /// the CPU's memory holds the matrix once. The matrix may be read again later.
    fn has_read(&self, _matrix: &View) {}
}

impl<T: AsRef<[u8]> + Send + Sync> ModelFile for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}
