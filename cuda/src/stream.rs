//! The stream: the device's work in order, that is copies, launches and graphs.

use std::sync::Arc;

use cudarc::driver::sys;

use crate::Error;
use crate::calls::Make;
use crate::device::Context;
use crate::timers::{Event, KernelTime};

/// Bytes of each half of the page-locked staging buffer: the processor fills one while the device copies the other.
const STAGING_BYTES: usize = 4 << 20;
/// Maximum words of arguments of any kernel.
pub(crate) const ARGUMENT_WORDS: usize = 20;

/// A kernel with everything that its launch needs.
#[derive(Clone, Copy)]
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) function: sys::CUfunction,
    pub(crate) grid: [u32; 3],
    pub(crate) threads: u32,
    pub(crate) shared: u32,
    /// Whether it may be launched while the kernel before it runs, for which it waits itself.
    pub(crate) overlaps: bool,
    /// The only argument, a structure of at most this many words.
    pub(crate) args: [u64; ARGUMENT_WORDS],
}

/// A captured list of launches, ready for replay.
pub(crate) struct Graph {
    raw: sys::CUgraphExec,
    /// The kernels, with an event before the first and after each; empty if they are not timed.
    names: Vec<&'static str>,
    stamps: Vec<Event>,
    context: Arc<Context>,
}

impl Graph {
    /// The kernel times of the last replay, which has ended, longest first.
    pub(crate) fn kernel_times(&self) -> Result<Vec<KernelTime>, Error> {
        let mut times: Vec<KernelTime> = Vec::new();
        for (name, pair) in self.names.iter().zip(self.stamps.windows(2)) {
            let ms = pair[0].ms_until(&pair[1])?;
            match times.iter_mut().find(|time| time.name == *name) {
                Some(time) => (time.runs, time.ms) = (time.runs + 1, time.ms + ms),
                None => times.push(KernelTime { name, runs: 1, ms }),
            }
        }
        times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Ok(times)
    }
}

/// A stream with its staging buffer.
pub(crate) struct Stream {
    /// Where work goes: the program's stream, or this one's own.
    raw: sys::CUstream,
    /// Its own, where graphs are captured: a capture would take what others launch on the program's.
    own: sys::CUstream,
    /// The point to wait for. The processor sleeps meanwhile, whatever the context's flags say.
    done: Event,
    staging: *mut u8,
    /// Which half of it is being filled, and the bytes there that pending copies may read.
    half: usize,
    staged: usize,
    /// For each half, the end of the copies from it.
    copied: [Event; 2],
    context: Arc<Context>,
}

// SAFETY: the driver allows a stream on any thread; the staging memory is this stream's own.
unsafe impl Send for Stream {}
// SAFETY: `&self` only waits, which the driver allows on several threads at once.
unsafe impl Sync for Stream {}
// SAFETY: the driver allows a graph on any thread.
unsafe impl Send for Graph {}
// SAFETY: `&self` only reads times and names.
unsafe impl Sync for Graph {}

impl Stream {
    /// The context is current, here and in every method.
    pub(crate) fn new(context: &Arc<Context>) -> Result<Stream, Error> {
        let null = std::ptr::null_mut();
        let copied = [Event::fence(context)?, Event::fence(context)?];
        let (raw, own, done) = (std::ptr::null_mut(), std::ptr::null_mut(), Event::fence(context)?);
        let mut stream = Stream { raw, own, done, staging: null, half: 0, staged: 0, copied, context: context.clone() };
        let calls = &context.calls;
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointers are to fields of the new stream, here and below.
        calls.make("cuStreamCreate", || unsafe { sys::cuStreamCreate(&mut stream.own, flags) })?;
        stream.raw = context.stream.unwrap_or(stream.own);
        let staging = (&raw mut stream.staging).cast();
        // SAFETY: the pointer is to a field of the new stream.
        calls.make("cuMemHostAlloc", || unsafe { sys::cuMemHostAlloc(staging, 2 * STAGING_BYTES, 0) })?;
        Ok(stream)
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Copies host bytes to the device, before later work.
    pub(crate) fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut at = to;
        for part in bytes.chunks(STAGING_BYTES) {
            self.stage(part.len())?[..part.len()].copy_from_slice(part);
            self.copy_staged(at, part.len())?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Copies rows of equal length, which start `pitch` bytes apart on the device.
    pub(crate) fn write_rows<'r>(
        &mut self,
        to: u64,
        pitch: usize,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Error> {
        let (mut at, mut rows) = (to, rows.peekable());
        while let Some(first) = rows.peek() {
            if first.len() > pitch || pitch > STAGING_BYTES {
                // A row of its own, longer than the staging memory.
                let row = rows.next().unwrap_or_default();
                self.write(at, row)?;
                at += pitch as u64;
                continue;
            }
            let count = (STAGING_BYTES / pitch).min(rows.len());
            let staging = self.stage(count * pitch)?;
            for (place, row) in staging.chunks_exact_mut(pitch).zip(rows.by_ref().take(count)) {
                place[..row.len()].copy_from_slice(row);
                place[row.len()..].fill(0);
            }
            self.copy_staged(at, count * pitch)?;
            at += (count * pitch) as u64;
        }
        Ok(())
    }

    /// Copies from the device, after all earlier work.
    pub(crate) fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let (to, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: the caller's view lies in device memory; the host memory is borrowed until the wait below.
        let copy = || unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, len, self.raw) };
        let copied = self.context.calls.make("cuMemcpyDtoHAsync", copy);
        // Also after a failure: nothing may write to `bytes` later.
        let waited = self.wait();
        copied.and(waited)
    }

    /// Waits for all earlier work.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        let waited = self.stamp(&self.done).and_then(|()| self.done.wait());
        if waited.is_err() {
            // Whatever is still under way ends before anybody goes on.
            // SAFETY: the stream is alive.
            let _ = unsafe { sys::cuStreamSynchronize(self.raw) };
        }
        waited
    }

    /// Runs a kernel.
    pub(crate) fn launch(&self, launch: &Launch) -> Result<(), Error> {
        self.launch_on(self.raw, launch)
    }

    fn launch_on(&self, stream: sys::CUstream, l: &Launch) -> Result<(), Error> {
        let [x, y, z] = l.grid;
        let mut args = [l.args.as_ptr().cast_mut().cast()];
        let (args, extra) = (args.as_mut_ptr(), std::ptr::null_mut());
        let mut overlap = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: l.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: l.shared,
            hStream: stream,
            attrs: &raw mut overlap,
            numAttrs: u32::from(l.overlaps),
        };
        // SAFETY: the function takes one structure of at most so many words, which the driver copies; what its pointers
        // point to is memory of this backend, within bounds that core has checked.
        let launch = || unsafe { sys::cuLaunchKernelEx(&raw const config, l.function, args, extra) };
        self.context.calls.make("cuLaunchKernelEx", launch)
    }

    /// Records the device's time at this point of the stream.
    pub(crate) fn stamp(&self, event: &Event) -> Result<(), Error> {
        event.record(self.raw, sys::CUevent_record_flags::CU_EVENT_RECORD_DEFAULT as u32)
    }

    /// Builds a graph of launches; if `timed`, with an event between every two.
    pub(crate) fn capture(&self, launches: &[Launch], timed: bool) -> Result<Graph, Error> {
        let calls = &self.context.calls;
        let count = if timed { launches.len() + 1 } else { 0 };
        let stamps = (0..count).map(|_| Event::new(&self.context)).collect::<Result<Vec<_>, _>>()?;
        // Their times are asked for outside of the graph.
        let external = sys::CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
        let stamp = |i: usize| stamps.get(i).map_or(Ok(()), |event| event.record(self.own, external));
        // Other threads' calls are no part of the capture and do not end it.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is not capturing: every capture ends in this function.
        calls.make("cuStreamBeginCapture", || unsafe { sys::cuStreamBeginCapture_v2(self.own, mode) })?;
        let launched = stamp(0).and_then(|()| {
            launches
                .iter()
                .zip(1..)
                .try_for_each(|(launch, i)| self.launch_on(self.own, launch).and_then(|()| stamp(i)))
        });
        let mut graph = std::ptr::null_mut();
        let ended = calls.make("cuStreamEndCapture", || {
            // SAFETY: the capture began above; it must end whatever became of the launches.
            unsafe { sys::cuStreamEndCapture(self.own, &mut graph) }
        });
        if ended.is_err() && graph.is_null() {
            // A call that tests made fail was not made: a stream that captures takes nothing else.
            // SAFETY: the capture began above; it must end whatever became of the launches.
            let _ = unsafe { sys::cuStreamEndCapture(self.own, &mut graph) };
        }
        let mut raw = std::ptr::null_mut();
        let made = launched.and(ended).and_then(|()| {
            // SAFETY: the graph is complete.
            let make = || unsafe { sys::cuGraphInstantiateWithFlags(&mut raw, graph, 0) };
            calls.make("cuGraphInstantiate", make)
        });
        if !graph.is_null() {
            // SAFETY: the graph is this function's own.
            let _ = unsafe { sys::cuGraphDestroy(graph) };
        }
        let names = if timed { launches.iter().map(|launch| launch.name).collect() } else { Vec::new() };
        made.map(|()| Graph { raw, names, stamps, context: self.context.clone() })
    }

    /// Runs a graph.
    pub(crate) fn replay(&self, graph: &Graph) -> Result<(), Error> {
        // SAFETY: graph and stream are of one context.
        self.context.calls.make("cuGraphLaunch", || unsafe { sys::cuGraphLaunch(graph.raw, self.raw) })
    }

    /// Runs a graph to its end with profiling enabled.
    pub(crate) fn profiled(&self, graph: &Graph) -> Result<(), Error> {
        // SAFETY: no preconditions, here and below. Whether a profiler is there is not this program's business.
        let _ = unsafe { sys::cuProfilerStart() };
        let done = self.replay(graph).and_then(|()| self.wait());
        // SAFETY: no preconditions.
        let _ = unsafe { sys::cuProfilerStop() };
        done
    }

    /// Reserves `len` bytes in the staging buffer, at most a half. If this half is full, waits for what the device still
    /// copies from the other.
    fn stage(&mut self, len: usize) -> Result<&mut [u8], Error> {
        if self.staged + len > STAGING_BYTES {
            self.stamp(&self.copied[self.half])?;
            self.copied[1 - self.half].wait()?;
            (self.half, self.staged) = (1 - self.half, 0);
        }
        // SAFETY: inside the allocation, and past everything that copies under way read.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.free(), len) })
    }

    /// The first byte of the staging buffer that no copy reads.
    fn free(&self) -> *mut u8 {
        // SAFETY: `staged` is at most a half.
        unsafe { self.staging.add(self.half * STAGING_BYTES + self.staged) }
    }

    /// Copies the bytes just staged.
    fn copy_staged(&mut self, to: u64, len: usize) -> Result<(), Error> {
        let from = self.free().cast_const().cast();
        self.staged += len.next_multiple_of(8).min(STAGING_BYTES - self.staged);
        // SAFETY: the staged bytes stay as they are until the device has copied them; the caller's range lies in device memory.
        let copy = || unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, len, self.raw) };
        self.context.calls.make("cuMemcpyHtoDAsync", copy)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: made in this context, where they were made at all. The wait comes before what it waits for goes; a
        // lost device has nothing under way.
        unsafe {
            if !self.raw.is_null() {
                let _ = sys::cuStreamSynchronize(self.raw);
            }
            if !self.own.is_null() {
                let _ = sys::cuStreamDestroy_v2(self.own);
            }
            if !self.staging.is_null() {
                let _ = sys::cuMemFreeHost(self.staging.cast());
            }
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _entered = self.context.enter_to_drop();
        // SAFETY: made in this context. The driver keeps what is under way.
        let _ = unsafe { sys::cuGraphExecDestroy(self.raw) };
    }
}
