//! The one door to every call of the driver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult;

use crate::Error;

/// Counts the calls and makes one of them fail: how tests reach every error path.
#[derive(Debug, Default)]
pub struct Faults {
    made: AtomicU64,
    next: Mutex<Option<Fault>>,
}

/// A call that is to fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How many calls are made before it.
    pub after: u64,
    /// Counts only calls of this name, such as `cuMemAlloc`; all by default.
    pub call: Option<&'static str>,
    /// What it returns instead of being made.
    pub result: CUresult,
}

impl Faults {
    /// Only counts.
    pub fn new() -> Faults {
        Faults::default()
    }

    /// Makes a call fail, once.
    pub fn arm(&self, fault: Fault) {
        *self.next() = Some(fault);
    }

    /// Whether the call that was to fail has come; otherwise it no longer does.
    pub fn disarm(&self) -> bool {
        self.next().take().is_none()
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn next(&self) -> MutexGuard<'_, Option<Fault>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; what it is to return where it is the one to fail.
    fn count(&self, name: &'static str) -> Option<CUresult> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut next = self.next();
        let fault = next.as_mut().filter(|fault| fault.call.is_none_or(|call| call == name))?;
        match fault.after.checked_sub(1) {
            Some(after) => {
                fault.after = after;
                None
            }
            None => next.take().map(|fault| fault.result),
        }
    }
}

/// The door.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Option<Arc<Faults>>);

impl Calls {
    pub(crate) fn new(faults: Option<Arc<Faults>>) -> Calls {
        Calls(faults)
    }

    /// Makes a call and names it in its error.
    pub(crate) fn make(&self, name: &'static str, call: impl FnOnce() -> CUresult) -> Result<(), Error> {
        match self.0.as_ref().and_then(|faults| faults.count(name)).unwrap_or_else(call) {
            CUresult::CUDA_SUCCESS => Ok(()),
            result => Err(Error::of_call(name, result)),
        }
    }
}
