//! The one door to every `vk*` call that can fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ash::vk;

use crate::Error;

/// Counts the calls that can fail and makes one of them fail, or a kernel wrong: how tests reach every error path.
#[derive(Debug, Default)]
pub struct Faults {
    made: AtomicU64,
    next: Mutex<Option<Fault>>,
    broken: Mutex<Option<BrokenKernel>>,
}

/// A kernel that computes wrongly.
#[derive(Debug)]
struct BrokenKernel {
    name: &'static str,
    ran: bool,
}

/// A call that is to fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How many calls are made before it.
    pub after: u64,
    /// Counts only calls of this name, such as `vkAllocateMemory`; all by default.
    pub call: Option<&'static str>,
    /// What it returns instead of being made.
    pub result: vk::Result,
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

    /// From now on a kernel leaves out its last workgroups, as if the driver were wrong.
    pub fn break_kernel(&self, name: &'static str) {
        *self.broken() = Some(BrokenKernel { name, ran: false });
    }

    /// Makes the broken kernel whole. Whether it ran.
    pub fn mend_kernel(&self) -> bool {
        self.broken().take().is_some_and(|kernel| kernel.ran)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn next(&self) -> MutexGuard<'_, Option<Fault>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Option<BrokenKernel>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; what it is to return where it is the one to fail.
    fn count(&self, name: &'static str) -> Option<vk::Result> {
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
pub(crate) struct Calls(Option<std::sync::Arc<Faults>>);

impl Calls {
    pub(crate) fn new(faults: Option<std::sync::Arc<Faults>>) -> Calls {
        Calls(faults)
    }

    /// Whether a kernel is to compute wrongly.
    pub(crate) fn is_broken(&self, kernel: &str) -> bool {
        let Some(faults) = &self.0 else { return false };
        let mut broken = faults.broken();
        let found = broken.as_mut().filter(|broken| broken.name == kernel);
        found.map(|broken| broken.ran = true).is_some()
    }

    /// Makes a call and names it in its error.
    pub(crate) fn make<T>(&self, name: &'static str, call: impl FnOnce() -> Result<T, vk::Result>) -> Result<T, Error> {
        if let Some(result) = self.0.as_ref().and_then(|faults| faults.count(name)) {
            return Err(Error::of_call(name, result));
        }
        call().map_err(|result| Error::of_call(name, result))
    }
}
