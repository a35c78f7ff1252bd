use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Injects faults for tests of error paths: counts the driver's calls and makes one fail, or breaks a kernel. `R` is
/// the result type of the driver's calls.
#[derive(Debug)]
pub struct Faults<R> {
    made: AtomicU64,
    next: Mutex<Option<Fault<R>>>,
    broken: Mutex<Option<BrokenKernel>>,
}

/// A call to fail.
#[derive(Clone, Debug)]
pub struct Fault<R> {
    /// Number of calls before it.
    pub after: u64,
    /// Counts only calls of this name, such as `vkAllocateMemory`; all by default.
    pub call: Option<&'static str>,
    /// The result to return instead of making the call.
    pub result: R,
}

/// A kernel to break.
#[derive(Debug)]
struct BrokenKernel {
    name: &'static str,
    ran: bool,
}

impl<R> Default for Faults<R> {
    fn default() -> Self {
        Faults { made: AtomicU64::new(0), next: Mutex::new(None), broken: Mutex::new(None) }
    }
}

impl<R> Faults<R> {
    /// Counts calls without making any fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one call fail, once.
    pub fn arm(&self, fault: Fault<R>) {
        *lock(&self.next) = Some(fault);
    }

    /// Cancels the failure; returns whether the call had already failed.
    pub fn disarm(&self) -> bool {
        lock(&self.next).take().is_none()
    }

    /// Makes a kernel skip its last workgroups, as if the driver were faulty.
    pub fn break_kernel(&self, name: &'static str) {
        *lock(&self.broken) = Some(BrokenKernel { name, ran: false });
    }

    /// Repairs the broken kernel; returns whether it ran.
    pub fn mend_kernel(&self) -> bool {
        lock(&self.broken).take().is_some_and(|kernel| kernel.ran)
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Counts a call; returns the injected result if this is the call to fail.
    fn count(&self, name: &'static str) -> Option<R> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut next = lock(&self.next);
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

/// Ignores poisoning: a test that panicked while it held the lock fails anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wrapper around every driver call that can fail.
#[derive(Debug)]
pub struct Calls<R>(Option<Arc<Faults<R>>>);

impl<R> Default for Calls<R> {
    fn default() -> Self {
        Calls(None)
    }
}

impl<R> Clone for Calls<R> {
    fn clone(&self) -> Self {
        Calls(self.0.clone())
    }
}

impl<R> Calls<R> {
    /// Wraps calls; `faults`, if given, counts them and makes them fail.
    pub fn new(faults: Option<Arc<Faults<R>>>) -> Self {
        Calls(faults)
    }

    /// Called before each call: the result to return without making it, or `None` to make it.
    pub fn fault(&self, name: &'static str) -> Option<R> {
        self.0.as_ref()?.count(name)
    }

    /// Returns whether to break this kernel.
    pub fn is_broken(&self, kernel: &str) -> bool {
        let Some(faults) = &self.0 else { return false };
        let mut broken = lock(&faults.broken);
        let found = broken.as_mut().filter(|broken| broken.name == kernel);
        found.map(|broken| broken.ran = true).is_some()
    }
}
