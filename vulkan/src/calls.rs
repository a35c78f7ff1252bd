//! The one door to every `vk*` call that can fail.

use std::sync::atomic::{AtomicU64, Ordering};

use ash::vk;

use crate::Error;

/// Counts the calls that can fail and makes one of them fail: how tests reach every error path.
#[derive(Debug)]
pub struct Faults {
    at: u64,
    result: vk::Result,
    made: AtomicU64,
}

impl Faults {
    /// Makes call number `at`, from 0, fail with this result instead of being made.
    pub fn at(at: u64, result: vk::Result) -> Faults {
        Faults { at, result, made: AtomicU64::new(0) }
    }

    /// Only counts.
    pub fn none() -> Faults {
        Faults::at(u64::MAX, vk::Result::SUCCESS)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

/// The door.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Option<std::sync::Arc<Faults>>);

impl Calls {
    pub(crate) fn new(faults: Option<std::sync::Arc<Faults>>) -> Calls {
        Calls(faults)
    }

    /// Makes a call and names it in its error.
    pub(crate) fn make<T>(
        &self,
        name: &'static str,
        call: impl FnOnce() -> Result<T, vk::Result>,
    ) -> Result<T, Error> {
        if let Some(faults) = &self.0
            && faults.made.fetch_add(1, Ordering::Relaxed) == faults.at
        {
            return Err(Error::of_call(name, faults.result));
        }
        call().map_err(|result| Error::of_call(name, result))
    }
}
