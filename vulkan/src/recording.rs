//! Recorded command buffers: the kernels of a program, split into submissions short enough for the watchdog.

use std::sync::Arc;

use ash::vk;

use crate::Error;
use crate::calls::Make;
use crate::device::{Device, MAX_BINDINGS};
use crate::hazards::{Access, Hazards};
use crate::pipelines::{Layout, STORAGE, TEXELS};
use crate::timers::{KernelTime, Stamps, Timers};

/// Maximum number of timed submissions per recording; later ones are judged by their work.
const MEASURED: u32 = 1024;
/// Descriptor sets per pool.
const SETS: u32 = 64;

/// A kernel with everything that its dispatch needs.
pub(crate) struct Dispatch<'a> {
    /// The kernel and its variant.
    pub(crate) name: &'static str,
    pub(crate) pipeline: vk::Pipeline,
    pub(crate) layout: Layout,
    /// Its texel buffers, then its storage buffers.
    pub(crate) texels: &'a [vk::BufferView],
    pub(crate) buffers: &'a [vk::DescriptorBufferInfo],
    pub(crate) push: &'a [u32],
    pub(crate) groups: [u32; 3],
    pub(crate) access: &'a Access,
    /// Its approximate work in floating-point operations.
    pub(crate) flop: u64,
}

/// Kernels recorded for replay, in order.
pub(crate) struct Recording {
    /// One command buffer per submission.
    pub(crate) segments: Vec<vk::CommandBuffer>,
    /// Number of times it was submitted.
    pub(crate) runs: u64,
    commands: vk::CommandPool,
    sets: Vec<vk::DescriptorPool>,
    sets_left: u32,
    hazards: Hazards,
    /// Floating-point operations of each segment, the open one last.
    flop: Vec<u64>,
    /// Maximum floating-point operations of a segment.
    most_flop: u64,
    /// Measures the segments; `None` if the queue has no clock.
    stamps: Option<Stamps>,
    /// Times the kernels, which then do not overlap.
    timers: Option<Timers>,
    device: Arc<Device>,
}

impl Recording {
    /// Starts a recording with submissions of at most about `most_flop` operations.
    pub(crate) fn new(device: &Arc<Device>, most_flop: u64, timed: bool) -> Result<Recording, Error> {
        let timers = if timed { Some(Timers::new(device)?) } else { None };
        let has_clock = device.about.timestamp_bits > 0;
        let stamps = if has_clock { Some(Stamps::new(device, MEASURED)?) } else { None };
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(device.about.queue_family);
        // SAFETY: the family is the device's.
        let commands =
            device.calls.make("vkCreateCommandPool", || unsafe { device.raw.create_command_pool(&info, None) })?;
        let mut recording = Recording {
            segments: Vec::new(),
            runs: 0,
            commands,
            sets: Vec::new(),
            sets_left: 0,
            hazards: Hazards::default(),
            flop: Vec::new(),
            most_flop: most_flop.max(1),
            stamps,
            timers,
            device: device.clone(),
        };
        recording.open()?;
        Ok(recording)
    }

    /// Appends a kernel. One with too much work for a submission is spread over several.
    pub(crate) fn push(&mut self, d: &Dispatch<'_>) -> Result<(), Error> {
        let set = self.descriptor_set(d)?;
        let flop = self.flop.last().copied().unwrap_or(0);
        if flop > 0 && flop + d.flop > self.most_flop {
            self.next()?;
        }
        let axis = (0..3).max_by_key(|&i| d.groups[i]).unwrap_or(0);
        let parts = d.flop.div_ceil(self.most_flop).clamp(1, u64::from(d.groups[axis].max(1))) as u32;
        let step = d.groups[axis].div_ceil(parts).max(1);
        let mut first = 0;
        while first < d.groups[axis] {
            if first > 0 {
                self.next()?;
            }
            let count = step.min(d.groups[axis] - first);
            let (mut base, mut groups) = ([0; 3], d.groups);
            (base[axis], groups[axis]) = (first, count);
            self.dispatch(d, set, base, groups)?;
            if let Some(flop) = self.flop.last_mut() {
                *flop += d.flop / u64::from(parts);
            }
            first += count;
        }
        Ok(())
    }

    /// Returns the last run's kernel times; empty if they were not timed. The device is idle.
    pub(crate) fn times(&self) -> Result<Vec<KernelTime>, Error> {
        self.timers.as_ref().map_or(Ok(Vec::new()), Timers::read)
    }

    /// The longest segment of the last run, in seconds, and its floating-point operations. `None` if the run has not
    /// ended or was not measured.
    pub(crate) fn longest(&self) -> Result<Option<(f64, u64)>, Error> {
        let Some(stamps) = &self.stamps else { return Ok(None) };
        let all = stamps.read()?.unwrap_or_default().into_iter().map(|ms| ms / 1e3).zip(self.flop.iter().copied());
        Ok(all.max_by(|a, b| a.0.total_cmp(&b.0)))
    }

    /// Closes the recording.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let device = &self.device;
        let Some(&open) = self.segments.last() else { return Ok(()) };
        if let Some(stamps) = self.stamps.as_ref().filter(|_| self.segments.len() <= MEASURED as usize) {
            stamps.end(open);
        }
        // SAFETY: the command buffer is recording.
        device.calls.make("vkEndCommandBuffer", || unsafe { device.raw.end_command_buffer(open) })
    }

    fn dispatch(
        &mut self,
        d: &Dispatch<'_>,
        set: vk::DescriptorSet,
        base: [u32; 3],
        groups: [u32; 3],
    ) -> Result<(), Error> {
        let Some(&commands) = self.segments.last() else { return Ok(()) };
        if self.hazards.wait_for(d.access) || self.timers.is_some() {
            barrier(&self.device, commands);
        }
        let (raw, compute) = (&self.device.raw, vk::PipelineBindPoint::COMPUTE);
        let push: &[u8] = bytemuck::cast_slice(d.push);
        // SAFETY: the command buffer is recording; pipeline, layout and set fit each other.
        unsafe {
            raw.cmd_bind_pipeline(commands, compute, d.pipeline);
            raw.cmd_bind_descriptor_sets(commands, compute, d.layout.pipeline, 0, &[set], &[]);
            raw.cmd_push_constants(commands, d.layout.pipeline, vk::ShaderStageFlags::COMPUTE, 0, push);
        }
        let dispatch = || {
            // SAFETY: the command buffer is recording, and everything that the kernel needs was bound above.
            unsafe { raw.cmd_dispatch_base(commands, base[0], base[1], base[2], groups[0], groups[1], groups[2]) };
        };
        match &mut self.timers {
            Some(timers) => timers.around(commands, d.name, dispatch),
            None => dispatch(),
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        self.finish()?;
        self.open()
    }

    /// Starts a segment.
    fn open(&mut self) -> Result<(), Error> {
        let device = &self.device;
        let info = vk::CommandBufferAllocateInfo::default().command_pool(self.commands).command_buffer_count(1);
        // SAFETY: the pool is alive and used by this thread alone.
        let commands =
            device.calls.make("vkAllocateCommandBuffers", || unsafe { device.raw.allocate_command_buffers(&info) })?[0];
        let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE);
        // SAFETY: the command buffer is new.
        device.calls.make("vkBeginCommandBuffer", || unsafe { device.raw.begin_command_buffer(commands, &info) })?;
        // What was submitted before is seen by this segment.
        barrier(device, commands);
        if let Some(stamps) = &mut self.stamps {
            stamps.begin(commands);
        }
        self.segments.push(commands);
        self.hazards.clear();
        self.flop.push(0);
        Ok(())
    }

    fn descriptor_set(&mut self, d: &Dispatch<'_>) -> Result<vk::DescriptorSet, Error> {
        let device = &self.device;
        if self.sets_left == 0 {
            let sizes =
                [STORAGE, TEXELS].map(|ty| vk::DescriptorPoolSize { ty, descriptor_count: SETS * MAX_BINDINGS });
            let info = vk::DescriptorPoolCreateInfo::default().max_sets(SETS).pool_sizes(&sizes);
            // SAFETY: plain data.
            let pool = device
                .calls
                .make("vkCreateDescriptorPool", || unsafe { device.raw.create_descriptor_pool(&info, None) })?;
            self.sets.push(pool);
            self.sets_left = SETS;
        }
        let Some(&pool) = self.sets.last() else { return Ok(vk::DescriptorSet::null()) };
        let layouts = [d.layout.set];
        let info = vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
        // SAFETY: the pool has room, the layout is alive.
        let set =
            device.calls.make("vkAllocateDescriptorSets", || unsafe { device.raw.allocate_descriptor_sets(&info) })?[0];
        self.sets_left -= 1;
        let write = |ty| vk::WriteDescriptorSet::default().dst_set(set).descriptor_type(ty);
        let texels = d.texels.chunks(1).map(|view| write(TEXELS).texel_buffer_view(view));
        let buffers = d.buffers.chunks(1).map(|buffer| write(STORAGE).buffer_info(buffer));
        let writes: Vec<_> = texels.chain(buffers).zip(0..).map(|(write, i)| write.dst_binding(i)).collect();
        // SAFETY: the set is not in use; buffers outlive the recording.
        unsafe { device.raw.update_descriptor_sets(&writes, &[]) };
        Ok(set)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: backends wait for the device before recordings are dropped. Pools take what came from them along.
        unsafe {
            self.device.raw.destroy_command_pool(self.commands, None);
            self.sets.iter().for_each(|&pool| self.device.raw.destroy_descriptor_pool(pool, None));
        }
    }
}

/// Records a full barrier: everything before completes and becomes visible to all later kernels and copies.
pub(crate) fn barrier(device: &Device, commands: vk::CommandBuffer) {
    use vk::{AccessFlags as To, PipelineStageFlags as Stage};
    let barriers = [vk::MemoryBarrier::default()
        .src_access_mask(To::SHADER_WRITE | To::TRANSFER_WRITE)
        .dst_access_mask(To::SHADER_READ | To::SHADER_WRITE | To::TRANSFER_READ | To::TRANSFER_WRITE)];
    let stages = Stage::COMPUTE_SHADER | Stage::TRANSFER;
    let flags = vk::DependencyFlags::empty();
    // SAFETY: the command buffer is recording.
    unsafe { device.raw.cmd_pipeline_barrier(commands, stages, stages, flags, &barriers, &[], &[]) };
}
