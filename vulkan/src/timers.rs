//! How long each kernel of a recording takes, by the device's own clock.

use std::sync::Arc;

use ash::vk;

use crate::Error;
use crate::device::Device;

/// Kernels of a recording that are timed; those after them are not.
const KERNELS: u32 = 4096;

/// A kernel's share of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel and its variant, as its compiled file is called.
    pub name: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// All of them together.
    pub ms: f64,
}

/// A timestamp before and after each kernel.
pub(crate) struct Timers {
    pool: vk::QueryPool,
    names: Vec<&'static str>,
    device: Arc<Device>,
}

impl Timers {
    /// # Errors
    /// [`Error::Missing`] where the queue has no clock.
    pub(crate) fn new(device: &Arc<Device>) -> Result<Timers, Error> {
        if device.about.timestamp_bits == 0 {
            return Err(Error::Missing { device: device.about.name(), what: "timestamps" });
        }
        let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(2 * KERNELS);
        // SAFETY: plain data.
        let pool = device.calls.make("vkCreateQueryPool", || unsafe { device.raw.create_query_pool(&info, None) })?;
        Ok(Timers { pool, names: Vec::new(), device: device.clone() })
    }

    /// Makes ready for another run; the first thing that is recorded.
    pub(crate) fn reset(&self, commands: vk::CommandBuffer) {
        // SAFETY: the command buffer is recording; a recording's runs do not overlap on the one queue.
        unsafe { self.device.raw.cmd_reset_query_pool(commands, self.pool, 0, 2 * KERNELS) };
    }

    /// Records a kernel between two timestamps. The caller has put a barrier before it.
    pub(crate) fn around(&mut self, commands: vk::CommandBuffer, name: &'static str, kernel: impl FnOnce()) {
        let query = 2 * self.names.len() as u32;
        if query >= 2 * KERNELS {
            return kernel();
        }
        self.names.push(name);
        let stamp = |query| {
            let stage = vk::PipelineStageFlags::COMPUTE_SHADER;
            // SAFETY: the command buffer is recording, the query was reset at its start.
            unsafe { self.device.raw.cmd_write_timestamp(commands, stage, self.pool, query) };
        };
        stamp(query);
        kernel();
        stamp(query + 1);
    }

    /// Times of the last run, by kernel, the longest first. Waits for the run.
    pub(crate) fn read(&self) -> Result<Vec<KernelTime>, Error> {
        let device = &self.device;
        let mut stamps = vec![0u64; 2 * self.names.len()];
        if stamps.is_empty() {
            return Ok(Vec::new());
        }
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        device.calls.make("vkGetQueryPoolResults", || {
            // SAFETY: the queries were written by a run that was submitted.
            unsafe { device.raw.get_query_pool_results(self.pool, 0, &mut stamps, flags) }
        })?;
        let mask = u64::MAX >> (64 - device.about.timestamp_bits.min(64));
        let tick_ms = f64::from(device.limits().timestamp_period) * 1e-6;
        let mut times: Vec<KernelTime> = Vec::new();
        for (&name, stamps) in self.names.iter().zip(stamps.chunks_exact(2)) {
            let ms = (stamps[1].wrapping_sub(stamps[0]) & mask) as f64 * tick_ms;
            match times.iter_mut().find(|time| time.name == name) {
                Some(time) => (time.runs, time.ms) = (time.runs + 1, time.ms + ms),
                None => times.push(KernelTime { name, runs: 1, ms }),
            }
        }
        times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Ok(times)
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        // SAFETY: engines wait for the device before recordings are dropped.
        unsafe { self.device.raw.destroy_query_pool(self.pool, None) };
    }
}
