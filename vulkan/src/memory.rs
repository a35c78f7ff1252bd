//! Buffers and their memory.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ash::vk;

use crate::Error;
use crate::calls::Make;
use crate::device::Device;

/// The kind of memory for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Device-local memory, also mapped if the CPU can access it.
    Device,
    /// Mapped memory that both CPU and device can access.
    Staging,
}

/// The location of a view on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) buffer: vk::Buffer,
    /// All texels of the buffer.
    pub(crate) texels: vk::BufferView,
    /// First byte in the buffer.
    pub(crate) at: usize,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Bytes from the first element to the end of the last row.
    pub(crate) len: usize,
}

/// A buffer and its memory.
pub(crate) struct Buffer {
    pub(crate) raw: vk::Buffer,
    memory: vk::DeviceMemory,
    /// A texel view of its bytes, up to the device's limit; null if kernels fetch none.
    texels: vk::BufferView,
    /// Its mapped address, if mapped.
    mapped: Option<NonNull<u8>>,
    len: usize,
    /// Bytes of its memory; 0 before allocation.
    allocated: u64,
    device: Arc<Device>,
}

// SAFETY: the pointer is to memory that this owns; access is through `&self` and `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: the memory is this buffer's own, and shared access only reads it.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Creates a buffer of `len` bytes, rounded up to words because kernels read and write words.
    pub(crate) fn new(device: &Arc<Device>, len: usize, place: Place) -> Result<Buffer, Error> {
        let size = (len.max(4) as u64).next_multiple_of(16);
        if size > device.about.max_allocation {
            return Err(Error::TooLarge { what: "a buffer", bytes: size, limit: device.about.max_allocation });
        }
        use vk::BufferUsageFlags as Usage;
        let fetched = place == Place::Device && device.about.is_processor();
        let texels = if fetched { Usage::UNIFORM_TEXEL_BUFFER } else { Usage::empty() };
        let usage = Usage::STORAGE_BUFFER | Usage::TRANSFER_SRC | Usage::TRANSFER_DST | texels;
        let info = vk::BufferCreateInfo::default().size(size).usage(usage).sharing_mode(vk::SharingMode::EXCLUSIVE);
        // SAFETY: the device is alive, the size is not 0.
        let raw = device.calls.make("vkCreateBuffer", || unsafe { device.raw.create_buffer(&info, None) })?;
        let (memory, texels) = (vk::DeviceMemory::null(), vk::BufferView::null());
        let mut buffer = Buffer { raw, memory, texels, mapped: None, len, allocated: 0, device: device.clone() };
        // SAFETY: the buffer is new.
        let needs = unsafe { device.raw.get_buffer_memory_requirements(raw) };
        let (memory, host) = allocate(device, &needs, place)?;
        buffer.memory = memory;
        buffer.allocated = needs.size;
        device.allocated.fetch_add(needs.size, Ordering::Relaxed);
        // SAFETY: buffer and memory are new and fit.
        device.calls.make("vkBindBufferMemory", || unsafe { device.raw.bind_buffer_memory(raw, buffer.memory, 0) })?;
        if fetched {
            let range = size.min(device.texel_bytes());
            let info =
                vk::BufferViewCreateInfo::default().buffer(raw).format(vk::Format::R32G32B32A32_UINT).range(range);
            let made = device.calls.make("vkCreateBufferView", || unsafe {
                // SAFETY: the buffer has its memory; every device has views of this format.
                device.raw.create_buffer_view(&info, None)
            });
            buffer.texels = made?;
        }
        if host {
            let flags = vk::MemoryMapFlags::empty();
            // SAFETY: the memory is host-visible and not mapped.
            let mapped = device
                .calls
                .make("vkMapMemory", || unsafe { device.raw.map_memory(buffer.memory, 0, vk::WHOLE_SIZE, flags) })?;
            buffer.mapped = NonNull::new(mapped.cast());
        }
        Ok(buffer)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A location in the buffer.
    pub(crate) fn place(&self, at: usize, stride: usize, len: usize) -> Placed {
        Placed { buffer: self.raw, texels: self.texels, at, stride, len }
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// Some of its bytes, mapped; `None` if the buffer is not mapped.
    ///
    /// # Safety
    /// The device must not write these bytes, nor read any that the caller changes.
    pub(crate) unsafe fn bytes_mut(&mut self, bytes: Range<usize>) -> &mut [u8] {
        let end = bytes.end.min(self.len);
        let start = bytes.start.min(end);
        match self.mapped {
            // SAFETY: the mapping is at least `self.len` long and lives as long as the buffer.
            Some(at) => unsafe { std::slice::from_raw_parts_mut(at.as_ptr().add(start), end - start) },
            None => &mut [],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.device.allocated.fetch_sub(self.allocated, Ordering::Relaxed);
        // SAFETY: backends wait for the device before their buffers are dropped. Null handles are allowed.
        unsafe {
            self.device.raw.destroy_buffer_view(self.texels, None);
            self.device.raw.destroy_buffer(self.raw, None);
            self.device.raw.free_memory(self.memory, None);
        }
    }
}

/// Allocates memory of the best type for a place that has room. Returns also whether the CPU can access it, which is then
/// coherent.
fn allocate(device: &Device, needs: &vk::MemoryRequirements, place: Place) -> Result<(vk::DeviceMemory, bool), Error> {
    let mut failure = Error::Missing { device: device.about.name(), what: "a usable type of memory" };
    for (index, host) in memory_types(device, needs.memory_type_bits, place) {
        let info = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(index);
        // SAFETY: the type is one that the buffer can have.
        match device.calls.make("vkAllocateMemory", || unsafe { device.raw.allocate_memory(&info, None) }) {
            Ok(memory) => return Ok((memory, host)),
            // Another heap may have room: the device's own is small beside the processor's on many that share it.
            Err(Error::OutOfDeviceMemory { call, .. }) => {
                failure = Error::OutOfDeviceMemory { call, bytes: needs.size };
            }
            Err(other) => return Err(other),
        }
    }
    Err(failure)
}

/// The memory types for a place, the best first, and whether the CPU can access them. Of types in one heap only the best is
/// there.
fn memory_types(device: &Device, allowed: u32, place: Place) -> Vec<(u32, bool)> {
    use vk::MemoryPropertyFlags as Flags;
    let host = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
    let wishes = match place {
        Place::Device if device.shared => [Flags::DEVICE_LOCAL | host, Flags::DEVICE_LOCAL, Flags::empty()],
        Place::Device => [Flags::DEVICE_LOCAL, Flags::empty(), Flags::empty()],
        Place::Staging => [host | Flags::HOST_CACHED, host, host],
    };
    let types = device.about.memory.memory_types_as_slice();
    let (mut heaps, mut found) = (Vec::new(), Vec::new());
    for wish in wishes {
        for (i, kind) in types.iter().enumerate() {
            if allowed & (1 << i) != 0 && kind.property_flags.contains(wish) && !heaps.contains(&kind.heap_index) {
                let sees = kind.property_flags.contains(host) && (place == Place::Staging || device.shared);
                heaps.push(kind.heap_index);
                found.push((i as u32, sees));
            }
        }
    }
    found
}
