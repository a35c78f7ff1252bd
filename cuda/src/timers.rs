//! Times of kernels, by the device's own clock.

use std::sync::Arc;

use cudarc::driver::sys;

use crate::Error;
use crate::calls::Make;
use crate::device::Context;

/// A kernel's share of a program's time.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel's name.
    pub name: &'static str,
    /// Number of runs.
    pub runs: usize,
    /// Total time of all runs, including the gaps between them.
    pub ms: f64,
}

/// A point of a stream or graph whose time the device records.
pub(crate) struct Event {
    raw: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: the driver allows events on any thread.
unsafe impl Send for Event {}
// SAFETY: `&self` only asks the driver, which allows that on several threads at once.
unsafe impl Sync for Event {}

impl Event {
    /// An event that records times. The context is current, here and in every method.
    pub(crate) fn new(context: &Arc<Context>) -> Result<Event, Error> {
        Event::with(context, sys::CUevent_flags::CU_EVENT_DEFAULT as u32)
    }

    /// An event to wait for, asleep.
    pub(crate) fn fence(context: &Arc<Context>) -> Result<Event, Error> {
        use sys::CUevent_flags as Flags;
        Event::with(context, Flags::CU_EVENT_DISABLE_TIMING as u32 | Flags::CU_EVENT_BLOCKING_SYNC as u32)
    }

    fn with(context: &Arc<Context>, flags: u32) -> Result<Event, Error> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a local.
        context.calls.make("cuEventCreate", || unsafe { sys::cuEventCreate(&mut raw, flags) })?;
        Ok(Event { raw, context: context.clone() })
    }

    /// Waits until the device has passed the point that was recorded last, if any.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        // SAFETY: the event is alive.
        self.context.calls.make("cuEventSynchronize", || unsafe { sys::cuEventSynchronize(self.raw) })
    }

    /// The stream is of the same context.
    pub(crate) fn record(&self, stream: sys::CUstream, flags: u32) -> Result<(), Error> {
        // SAFETY: event and stream are alive.
        let record = || unsafe { sys::cuEventRecordWithFlags(self.raw, stream, flags) };
        self.context.calls.make("cuEventRecord", record)
    }

    /// Milliseconds from this event to a later one, which has occurred.
    pub(crate) fn ms_until(&self, later: &Event) -> Result<f64, Error> {
        let mut ms = 0.0;
        // SAFETY: both events are alive, the pointer is to a local.
        let ask = || unsafe { sys::cuEventElapsedTime(&mut ms, self.raw, later.raw) };
        self.context.calls.make("cuEventElapsedTime", ask)?;
        Ok(ms.into())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: made in this context. The driver keeps what is under way.
        let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
    }
}
