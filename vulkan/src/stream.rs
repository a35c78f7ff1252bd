//! The queue: copies into and out of the arena, and submissions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ash::vk;

use crate::Error;
use crate::calls::Make;
use crate::device::Device;
use crate::hazards::{Access, Hazards};
use crate::memory::{Buffer, Place};
use crate::recording::barrier;

/// Maximum number of submissions in flight before the host waits for the oldest.
const SLOTS: usize = 4;
/// Bytes of staging buffer per slot; larger copies are split.
const STAGING_BYTES: usize = 2 << 20;
/// Maximum bytes for `vkCmdUpdateBuffer`; small values travel inside the command buffer.
const UPDATE_BYTES: usize = 65536;
/// Time limit of a submission, after which the device counts as lost.
const PATIENCE_NS: u64 = 600_000_000_000;

/// The commands of one submission, and the fence that signals its end.
#[derive(Clone, Copy, Default)]
struct Slot {
    commands: vk::CommandBuffer,
    fence: vk::Fence,
    under_way: bool,
}

/// A queue with its staging buffer.
pub(crate) struct Stream {
    slots: [Slot; SLOTS],
    current: usize,
    /// Whether the current slot's command buffer is recording.
    open: bool,
    /// Writes of the open slot.
    hazards: Hazards,
    /// Bytes of the open slot's staging buffer in use.
    staged: usize,
    /// Set after a failed submission: fences are then meaningless.
    broken: bool,
    pool: vk::CommandPool,
    /// The staging buffer, with a part for each slot.
    staging: Buffer,
    device: Arc<Device>,
}

impl Stream {
    pub(crate) fn new(device: &Arc<Device>) -> Result<Stream, Error> {
        let staging = Buffer::new(device, SLOTS * STAGING_BYTES, Place::Staging)?;
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(device.about.queue_family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: the family is the device's.
        let pool =
            device.calls.make("vkCreateCommandPool", || unsafe { device.raw.create_command_pool(&info, None) })?;
        let mut stream = Stream {
            slots: [Slot::default(); SLOTS],
            current: 0,
            open: false,
            hazards: Hazards::default(),
            staged: 0,
            broken: false,
            pool,
            staging,
            device: device.clone(),
        };
        let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(SLOTS as u32);
        // SAFETY: the pool is alive and used by this thread alone.
        let commands =
            device.calls.make("vkAllocateCommandBuffers", || unsafe { device.raw.allocate_command_buffers(&info) })?;
        for (slot, commands) in stream.slots.iter_mut().zip(commands) {
            slot.commands = commands;
            let info = vk::FenceCreateInfo::default();
            // SAFETY: plain data.
            slot.fence = device.calls.make("vkCreateFence", || unsafe { device.raw.create_fence(&info, None) })?;
        }
        Ok(stream)
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Copies host bytes into a buffer, before the next submission.
    pub(crate) fn write(&mut self, to: vk::Buffer, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let words = offset.is_multiple_of(4) && bytes.len().is_multiple_of(4);
        if words && bytes.len() <= UPDATE_BYTES {
            return self.update(to, offset, bytes);
        }
        for (part, i) in bytes.chunks(STAGING_BYTES).zip(0..) {
            let staged = self.stage(part.len())?;
            self.staging_bytes(staged, part.len()).copy_from_slice(part);
            self.copy_staged(staged, to, offset + i * STAGING_BYTES, part.len())?;
        }
        Ok(())
    }

    /// Copies rows of equal length, which start `pitch` bytes apart in the buffer.
    pub(crate) fn write_rows<'r>(
        &mut self,
        to: vk::Buffer,
        offset: usize,
        pitch: usize,
        mut rows: impl ExactSizeIterator<Item = &'r [u8]>,
    ) -> Result<(), Error> {
        let mut at = offset;
        if pitch > STAGING_BYTES {
            for row in rows {
                self.write(to, at, row)?;
                at += pitch;
            }
            return Ok(());
        }
        while rows.len() > 0 {
            let len = (STAGING_BYTES / pitch.max(1)).min(rows.len()) * pitch;
            let staged = self.stage(len)?;
            let places = self.staging_bytes(staged, len).chunks_mut(pitch.max(1));
            places.zip(rows.by_ref()).for_each(|(place, row)| place[..row.len()].copy_from_slice(row));
            self.copy_staged(staged, to, at, len)?;
            at += len;
        }
        Ok(())
    }

    /// Copies out of a buffer, after all submitted work.
    pub(crate) fn read(&mut self, from: vk::Buffer, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        for (part, i) in bytes.chunks_mut(STAGING_BYTES).zip(0..) {
            let staged = self.stage(part.len())?;
            let region = vk::BufferCopy {
                src_offset: (offset + i * STAGING_BYTES) as u64,
                dst_offset: staged as u64,
                size: part.len() as u64,
            };
            let commands = self.commands()?;
            barrier(&self.device, commands);
            let seen = [vk::MemoryBarrier::default()
                .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
                .dst_access_mask(vk::AccessFlags::HOST_READ)];
            let (copy, host) = (vk::PipelineStageFlags::TRANSFER, vk::PipelineStageFlags::HOST);
            // SAFETY: both ranges lie in their buffers; the command buffer is recording.
            unsafe {
                let raw = &self.device.raw;
                raw.cmd_copy_buffer(commands, from, self.staging.raw, &[region]);
                raw.cmd_pipeline_barrier(commands, copy, host, vk::DependencyFlags::empty(), &seen, &[], &[]);
            }
            self.submit(&[])?;
            self.wait()?;
            part.copy_from_slice(self.staging_bytes(staged, part.len()));
        }
        Ok(())
    }

    /// Submits the writes so far, then each recorded segment as a separate submission.
    pub(crate) fn submit(&mut self, segments: &[vk::CommandBuffer]) -> Result<(), Error> {
        if !self.open && segments.is_empty() {
            return Ok(());
        }
        let writes = self.commands()?;
        let result = self.submit_all(writes, segments);
        self.broken |= result.is_err();
        self.open = false;
        result
    }

    /// Waits for all submitted work.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        if self.broken {
            self.device.wait_idle()?;
            self.broken = false;
            self.slots.iter_mut().for_each(|slot| slot.under_way = false);
        }
        (0..SLOTS).try_for_each(|i| self.wait_for(i))
    }

    /// Reserves bytes, at most [`STAGING_BYTES`], in the open slot's part of the staging buffer; returns their offset.
    fn stage(&mut self, len: usize) -> Result<usize, Error> {
        self.commands()?;
        if self.staged + len > STAGING_BYTES {
            self.submit(&[])?;
            self.commands()?;
        }
        let at = self.current * STAGING_BYTES + self.staged;
        self.staged += len;
        Ok(at)
    }

    /// The bytes just staged.
    fn staging_bytes(&mut self, staged: usize, len: usize) -> &mut [u8] {
        // SAFETY: a slot is open only when its last submission is done, and no copy recorded since then has these
        // bytes.
        unsafe { self.staging.bytes_mut(staged..staged + len) }
    }

    /// Records a copy of the bytes just staged.
    fn copy_staged(&mut self, staged: usize, to: vk::Buffer, offset: usize, len: usize) -> Result<(), Error> {
        let commands = self.commands()?;
        // Bytes of any buffer: it waits for all writes of the slot, and all for it.
        let any = 0..usize::MAX;
        if self.hazards.wait_for(&Access { reads: vec![], writes: vec![any] }) {
            barrier(&self.device, commands);
        }
        let region = vk::BufferCopy { src_offset: staged as u64, dst_offset: offset as u64, size: len as u64 };
        // SAFETY: both ranges lie in their buffers; the command buffer is recording.
        unsafe { self.device.raw.cmd_copy_buffer(commands, self.staging.raw, to, &[region]) };
        Ok(())
    }

    fn update(&mut self, to: vk::Buffer, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let commands = self.commands()?;
        let write = offset..offset + bytes.len();
        if self.hazards.wait_for(&Access { reads: vec![], writes: vec![write] }) {
            barrier(&self.device, commands);
        }
        // SAFETY: a multiple of 4, at most 65536 bytes, inside the buffer; the command buffer is recording.
        unsafe { self.device.raw.cmd_update_buffer(commands, to, offset as u64, bytes) };
        Ok(())
    }

    /// The command buffer of the next submission, recording.
    fn commands(&mut self) -> Result<vk::CommandBuffer, Error> {
        if self.open {
            return Ok(self.slots[self.current].commands);
        }
        if self.broken {
            self.wait()?;
        }
        self.current = (self.current + 1) % SLOTS;
        self.wait_for(self.current)?;
        let (device, commands) = (&self.device, self.slots[self.current].commands);
        let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: its last submission is done. Beginning resets it.
        device.calls.make("vkBeginCommandBuffer", || unsafe { device.raw.begin_command_buffer(commands, &info) })?;
        self.open = true;
        self.staged = 0;
        self.hazards.clear();
        barrier(device, commands);
        Ok(commands)
    }

    fn submit_all(&mut self, writes: vk::CommandBuffer, segments: &[vk::CommandBuffer]) -> Result<(), Error> {
        let (device, slot) = (&self.device, &mut self.slots[self.current]);
        // SAFETY: the command buffer is recording.
        device.calls.make("vkEndCommandBuffer", || unsafe { device.raw.end_command_buffer(writes) })?;
        let fences = [slot.fence];
        // SAFETY: no submission with the fence is under way.
        device.calls.make("vkResetFences", || unsafe { device.raw.reset_fences(&fences) })?;
        let first: Vec<vk::CommandBuffer> = [writes].iter().chain(segments.first()).copied().collect();
        let mut batches: Vec<&[vk::CommandBuffer]> = vec![&first];
        batches.extend(segments.iter().skip(1).map(std::slice::from_ref));
        let last = batches.len() - 1;
        let queue = device.queue();
        for (i, batch) in batches.into_iter().enumerate() {
            let info = [vk::SubmitInfo::default().command_buffers(batch)];
            let fence = if i == last { slot.fence } else { vk::Fence::null() };
            // SAFETY: the command buffers are complete and their resources alive; this thread has the queue.
            device.calls.make("vkQueueSubmit", || unsafe { device.raw.queue_submit(*queue, &info, fence) })?;
            device.submissions.fetch_add(1, Ordering::Relaxed);
        }
        slot.under_way = true;
        Ok(())
    }

    fn wait_for(&mut self, slot: usize) -> Result<(), Error> {
        let (device, slot) = (&self.device, &mut self.slots[slot]);
        if slot.under_way {
            let fences = [slot.fence];
            let wait = || {
                // SAFETY: the fence was submitted.
                unsafe { device.raw.wait_for_fences(&fences, true, PATIENCE_NS) }
            };
            device.calls.make("vkWaitForFences", wait)?;
            slot.under_way = false;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A lost device has nothing under way either.
        let _ = self.device.wait_idle();
        // SAFETY: nothing is under way. Null handles are allowed.
        unsafe {
            self.slots.iter().for_each(|slot| self.device.raw.destroy_fence(slot.fence, None));
            self.device.raw.destroy_command_pool(self.pool, None);
        }
    }
}
