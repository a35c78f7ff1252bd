//! Times of kernels and submissions, by the device's own clock.

use std::sync::Arc;

use ash::vk;

use crate::Error;
use crate::calls::Make;
use crate::device::Device;

/// Maximum number of timed kernels per recording; later ones are not timed.
const KERNELS: u32 = 4096;

/// A kernel's share of a program's time.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel and its variant, as in its compiled file.
    pub name: &'static str,
    /// Number of runs.
    pub runs: usize,
    /// Total time of all runs.
    pub ms: f64,
}

/// Pairs of timestamps in recorded commands.
pub(crate) struct Stamps {
    pool: vk::QueryPool,
    pairs: u32,
    most: u32,
    device: Arc<Device>,
}

impl Stamps {
    /// Allocates this many pairs.
    ///
    /// # Errors
    /// [`Error::Missing`] if the queue has no clock.
    pub(crate) fn new(device: &Arc<Device>, most: u32) -> Result<Stamps, Error> {
        if device.about.timestamp_bits == 0 {
            return Err(Error::Missing { device: device.about.name(), what: "timestamps" });
        }
        let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(2 * most);
        // SAFETY: plain data.
        let pool = device.calls.make("vkCreateQueryPool", || unsafe { device.raw.create_query_pool(&info, None) })?;
        Ok(Stamps { pool, pairs: 0, most, device: device.clone() })
    }

    /// Records the first timestamp of a pair, after the caller's barrier. Returns `false` if no pair is left.
    pub(crate) fn begin(&mut self, commands: vk::CommandBuffer) -> bool {
        let room = self.pairs < self.most;
        if room {
            // In the pair's own command buffer: the run before may be under way when an earlier one is submitted.
            // SAFETY: the command buffer is recording; a recording's runs do not overlap on the one queue.
            unsafe { self.device.raw.cmd_reset_query_pool(commands, self.pool, 2 * self.pairs, 2) };
            self.stamp(commands, 2 * self.pairs);
            self.pairs += 1;
        }
        room
    }

    /// Records the second timestamp of the last pair.
    pub(crate) fn end(&self, commands: vk::CommandBuffer) {
        self.stamp(commands, 2 * self.pairs - 1);
    }

    /// Milliseconds between the timestamps of each pair, in the last run that got so far. `None` if a pair was never
    /// written, or is about to be.
    pub(crate) fn read(&self) -> Result<Option<Vec<f64>>, Error> {
        let device = &self.device;
        let mut stamps = vec![0u64; 2 * self.pairs as usize];
        if stamps.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let flags = vk::QueryResultFlags::TYPE_64;
        let complete = device.calls.make("vkGetQueryPoolResults", || {
            // SAFETY: the queries were written by a run that was submitted.
            match unsafe { device.raw.get_query_pool_results(self.pool, 0, &mut stamps, flags) } {
                Err(vk::Result::NOT_READY) => Ok(false),
                other => other.map(|()| true),
            }
        })?;
        let mask = u64::MAX >> (64 - device.about.timestamp_bits.min(64));
        let tick_ms = f64::from(device.limits().timestamp_period) * 1e-6;
        let ms = stamps.chunks_exact(2).map(|pair| (pair[1].wrapping_sub(pair[0]) & mask) as f64 * tick_ms);
        Ok(complete.then(|| ms.collect()))
    }

    fn stamp(&self, commands: vk::CommandBuffer, query: u32) {
        let stage = vk::PipelineStageFlags::COMPUTE_SHADER;
        // SAFETY: the command buffer is recording, and resets the query before.
        unsafe { self.device.raw.cmd_write_timestamp(commands, stage, self.pool, query) };
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        // SAFETY: backends wait for the device before recordings are dropped.
        unsafe { self.device.raw.destroy_query_pool(self.pool, None) };
    }
}

/// A timestamp before and after each kernel.
pub(crate) struct Timers {
    stamps: Stamps,
    names: Vec<&'static str>,
}

impl Timers {
    /// # Errors
    /// [`Error::Missing`] if the queue has no clock.
    pub(crate) fn new(device: &Arc<Device>) -> Result<Timers, Error> {
        Ok(Timers { stamps: Stamps::new(device, KERNELS)?, names: Vec::new() })
    }

    /// Records a kernel between two timestamps, after the caller's barrier.
    pub(crate) fn around(&mut self, commands: vk::CommandBuffer, name: &'static str, kernel: impl FnOnce()) {
        let timed = self.stamps.begin(commands);
        kernel();
        if timed {
            self.names.push(name);
            self.stamps.end(commands);
        }
    }

    /// Returns the last run's times by kernel, longest first. The device is idle.
    pub(crate) fn read(&self) -> Result<Vec<KernelTime>, Error> {
        let all = self.stamps.read()?.unwrap_or_default();
        let mut times: Vec<KernelTime> = Vec::new();
        for (&name, ms) in self.names.iter().zip(all) {
            match times.iter_mut().find(|time| time.name == name) {
                Some(time) => (time.runs, time.ms) = (time.runs + 1, time.ms + ms),
                None => times.push(KernelTime { name, runs: 1, ms }),
            }
        }
        times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Ok(times)
    }
}
