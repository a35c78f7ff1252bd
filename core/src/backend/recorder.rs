use super::contract::{Backend, OpError, Program, Tap};
use crate::View;
use crate::ops::*;
use crate::tensor::Precision;

/// The checked front end of a backend, with one method per kernel. Networks are written against it.
pub struct Recorder<'b, B> {
    backend: &'b mut B,
    bounds: Bounds,
    precision: Precision,
}

impl<'b, B: Backend> Recorder<'b, B> {
    fn new(backend: &'b mut B) -> Self {
        let (bounds, precision) = (backend.bounds(), backend.precision());
        Recorder { backend, bounds, precision }
    }

    /// Runs or records a kernel.
    ///
    /// # Errors
    /// [`OpError::Invalid`] if the descriptor does not fit the regions, [`OpError::Form`] if the device lacks this form
    /// of the kernel, or an error of the device.
    pub fn op(&mut self, op: &Op) -> Result<(), OpError<B::Error>> {
        op.check(&self.bounds)?;
        if let Some(form) = op.missing_form(&self.precision) {
            return Err(OpError::Form(form));
        }
        // SAFETY: checked against the backend's own bounds.
        unsafe { self.backend.kernel(op) }.map_err(OpError::Device)
    }

    /// Shows a named intermediate tensor in the arena.
    ///
    /// # Errors
    /// [`OpError::Invalid`] if it does not lie in the arena, or an error of the device.
    pub fn tap(&mut self, tap: impl Into<Tap>, view: &View) -> Result<(), OpError<B::Error>> {
        let tap = tap.into();
        self.bounds.output(tap.name, view, &[])?;
        self.backend.tap(tap, view)
    }
}

macro_rules! declare_methods {
    ($($(#[$doc:meta])* $name:ident: $op:ident,)*) => {
        impl<B: Backend> Recorder<'_, B> {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As [`Recorder::op`].
                pub fn $name(&mut self, op: &$op) -> Result<(), OpError<B::Error>> {
                    self.op(&Op::$op(*op))
                }
            )*
        }
    };
}

kernels!(declare_methods);

/// Runs a program. Records its kernels first if the backend has no recording of it.
///
/// # Errors
/// Errors of the descriptor's check or of the device.
pub fn run<B: Backend>(
    backend: &mut B,
    program: Program,
    record: impl FnOnce(&mut Recorder<'_, B>) -> Result<(), OpError<B::Error>>,
) -> Result<(), OpError<B::Error>> {
    if backend.begin(program).map_err(OpError::Device)? {
        record(&mut Recorder::new(backend))?;
    }
    backend.submit(program).map_err(OpError::Device)
}
