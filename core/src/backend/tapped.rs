use super::contract::{Backend, OpError, Program, Tap};
use crate::View;
use crate::ops::{Bounds, InvalidOp, Op};
use crate::tensor::Precision;

/// A callback for the intermediate tensors of a pass: receives the name, the view and its bytes without padding.
pub type TapFn<'a> = dyn FnMut(Tap, &View, &[u8]) + 'a;

/// A backend that can show every intermediate tensor to a callback. Kernels then run one by one, and no recording is
/// kept.
pub struct Tapped<'t, 'f, B> {
    backend: B,
    show: Option<&'t mut TapFn<'f>>,
    scratch: &'t mut [u8],
}

impl<'t, 'f, B: Backend> Tapped<'t, 'f, B> {
    /// Shows each tensor to `show`, if given. `scratch` must then hold the largest tensor; the size of the arena is
    /// enough.
    pub fn new(backend: B, show: Option<&'t mut TapFn<'f>>, scratch: &'t mut [u8]) -> Self {
        Tapped { backend, show, scratch }
    }

    fn seen(&self, program: Program) -> Program {
        Program { watched: self.show.is_some(), ..program }
    }
}

// SAFETY: every method that touches memory is the inner backend's own, and so are its bounds.
unsafe impl<B: Backend> Backend for Tapped<'_, '_, B> {
    type Error = B::Error;

    fn precision(&self) -> Precision {
        self.backend.precision()
    }

    fn bounds(&self) -> Bounds {
        self.backend.bounds()
    }

    fn begin(&mut self, program: Program) -> Result<bool, B::Error> {
        self.backend.begin(self.seen(program))
    }

    unsafe fn kernel(&mut self, op: &Op) -> Result<(), B::Error> {
        // SAFETY: the caller checked `op` against `bounds`, which are the inner backend's.
        unsafe { self.backend.kernel(op) }
    }

    fn submit(&mut self, program: Program) -> Result<(), B::Error> {
        self.backend.submit(self.seen(program))
    }

    unsafe fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<(), B::Error> {
        // SAFETY: the caller promises that the bytes fit the arena, which is the inner backend's.
        unsafe { self.backend.upload(at, bytes) }
    }

    unsafe fn download(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), B::Error> {
        // SAFETY: the caller promises that the bytes fit the arena, which is the inner backend's.
        unsafe { self.backend.download(at, bytes) }
    }

    fn tap(&mut self, tap: Tap, view: &View) -> Result<(), OpError<B::Error>> {
        let Some(show) = &mut self.show else { return Ok(()) };
        let row_bytes = view.cols * view.dtype.size();
        let Some(bytes) = self.scratch.get_mut(..view.rows * row_bytes) else {
            return Err(InvalidOp { at: tap.name, what: "larger than the scratch memory" }.into());
        };
        for (r, row) in bytes.chunks_exact_mut(row_bytes).enumerate() {
            self.backend.read(&view.rows_from(r, 1), row)?;
        }
        show(tap, view, bytes);
        Ok(())
    }
}

impl<B: core::fmt::Debug> core::fmt::Debug for Tapped<'_, '_, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Tapped").field(&self.backend).finish()
    }
}
