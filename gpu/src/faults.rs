use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the driver's calls and makes one of them fail, or a kernel wrong: how tests reach every error path. `R` is what
/// the driver's calls return.
#[derive(Debug)]
pub struct Faults<R> {
    made: AtomicU64,
    next: Mutex<Option<Fault<R>>>,
    broken: Mutex<Option<BrokenKernel>>,
}

/// A call that is to fail.
#[derive(Clone, Debug)]
pub struct Fault<R> {
    /// How many calls are made before it.
    pub after: u64,
    /// Counts only calls of this name, such as `vkAllocateMemory`; all by default.
    pub call: Option<&'static str>,
    /// What it returns instead of being made.
    pub result: R,
}

/// A kernel that computes wrongly.
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
    /// Only counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a call fail, once.
    pub fn arm(&self, fault: Fault<R>) {
        *lock(&self.next) = Some(fault);
    }

    /// Whether the call that was to fail has come; otherwise it no longer does.
    pub fn disarm(&self) -> bool {
        lock(&self.next).take().is_none()
    }

    /// From now on a kernel leaves out its last workgroups, as if the driver were wrong.
    pub fn break_kernel(&self, name: &'static str) {
        *lock(&self.broken) = Some(BrokenKernel { name, ran: false });
    }

    /// Makes the broken kernel whole. Whether it ran.
    pub fn mend_kernel(&self) -> bool {
        lock(&self.broken).take().is_some_and(|kernel| kernel.ran)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Counts a call; what it is to return where it is the one to fail.
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

/// A test that panicked while it held a lock fails anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one door to every call of a driver that can fail.
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
    /// Calls that `faults`, where there are any, count and make fail.
    pub fn new(faults: Option<Arc<Faults<R>>>) -> Self {
        Calls(faults)
    }

    /// Before each call: what it is to return without being made; `None`: make it.
    pub fn fault(&self, name: &'static str) -> Option<R> {
        self.0.as_ref()?.count(name)
    }

    /// Whether a kernel is to compute wrongly.
    pub fn is_broken(&self, kernel: &str) -> bool {
        let Some(faults) = &self.0 else { return false };
        let mut broken = lock(&faults.broken);
        let found = broken.as_mut().filter(|broken| broken.name == kernel);
        found.map(|broken| broken.ran = true).is_some()
    }
}
