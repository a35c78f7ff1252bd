//! Physical devices: listing them, their capabilities, and opening one.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::{khr, vk};

use crate::Error;
use crate::calls::{Calls, Make};
use crate::features::{Asked, Enabled};
use crate::instance::Instance;
use crate::tier::{Tier, Tiers};

/// Bytes of a texel.
pub(crate) const TEXEL_BYTES: usize = 16;

/// Maximum number of bindings of any kernel.
pub(crate) const MAX_BINDINGS: u32 = 8;

/// A device that can run denoir.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The device's number for [`Options::device`](crate::Options::device); GPUs come first.
    pub index: usize,
    /// The driver's name for the device.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// The Vulkan version that it supports, such as `1.3.230`.
    pub api: String,
    /// Size of its largest device-local heap in bytes.
    pub memory_bytes: u64,
    /// Whether the processor and the device share one memory.
    pub unified: bool,
    /// The tiers that its features allow, before the self-test.
    pub tiers: Tiers,
}

/// A physical device and its properties.
pub(crate) struct Candidate {
    pub(crate) physical: vk::PhysicalDevice,
    pub(crate) properties: vk::PhysicalDeviceProperties,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) max_allocation: u64,
    pub(crate) queue_family: u32,
    /// Valid bits of the queue's timestamps; 0 if it has none.
    pub(crate) timestamp_bits: u32,
    pub(crate) tiers: Tiers,
    extensions: Vec<&'static CStr>,
}

impl Candidate {
    pub(crate) fn name(&self) -> String {
        self.properties.device_name_as_c_str().map_or_else(|_| "?".into(), |n| n.to_string_lossy().into_owned())
    }

    /// Bytes of the memory that the device has for itself, if any.
    pub(crate) fn own_memory(&self) -> Option<u64> {
        (!self.unified()).then(|| self.memory_bytes())
    }

    /// Size of the largest device-local heap in bytes.
    fn memory_bytes(&self) -> u64 {
        let local = self.memory.memory_heaps_as_slice().iter();
        let local = local.filter(|h| h.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)).map(|h| h.size).max();
        local.unwrap_or(0)
    }

    pub(crate) fn unified(&self) -> bool {
        matches!(self.properties.device_type, vk::PhysicalDeviceType::INTEGRATED_GPU | vk::PhysicalDeviceType::CPU)
    }

    /// A CPU that runs shaders. It compiles a kernel on the first run, and fetches 16-byte texels far faster than it
    /// loads from storage buffers.
    pub(crate) fn is_processor(&self) -> bool {
        self.properties.device_type == vk::PhysicalDeviceType::CPU
    }

    pub(crate) fn info(&self, index: usize) -> DeviceInfo {
        let v = self.properties.api_version;
        DeviceInfo {
            index,
            name: self.name(),
            kind: kind(self.properties.device_type).0,
            api: format!("{}.{}.{}", vk::api_version_major(v), vk::api_version_minor(v), vk::api_version_patch(v)),
            memory_bytes: self.memory_bytes(),
            unified: self.unified(),
            tiers: self.tiers,
        }
    }
}

/// A kind of device, and its sort order.
fn kind(of: vk::PhysicalDeviceType) -> (&'static str, u8) {
    match of {
        vk::PhysicalDeviceType::DISCRETE_GPU => ("discrete", 0),
        vk::PhysicalDeviceType::INTEGRATED_GPU => ("integrated", 1),
        vk::PhysicalDeviceType::VIRTUAL_GPU => ("virtual", 2),
        vk::PhysicalDeviceType::CPU => ("cpu", 4),
        _ => ("other", 3),
    }
}

/// Lists the devices that can compute with Vulkan 1.1, GPUs first.
pub(crate) fn candidates(instance: &Instance) -> Result<Vec<Candidate>, Error> {
    // SAFETY: no preconditions, here and in `candidate`: queries of a live instance's own devices.
    let all =
        instance.calls.make("vkEnumeratePhysicalDevices", || unsafe { instance.raw.enumerate_physical_devices() });
    let mut found = Vec::new();
    for physical in all? {
        found.extend(candidate(instance, physical)?);
    }
    found.sort_by_key(|c: &Candidate| kind(c.properties.device_type).1);
    Ok(found)
}

fn candidate(instance: &Instance, physical: vk::PhysicalDevice) -> Result<Option<Candidate>, Error> {
    let raw = &instance.raw;
    // SAFETY: the physical device is one that this instance lists.
    let (properties, families) = unsafe {
        (raw.get_physical_device_properties(physical), raw.get_physical_device_queue_family_properties(physical))
    };
    let computes = |f: &vk::QueueFamilyProperties| f.queue_flags.contains(vk::QueueFlags::COMPUTE);
    // A family without graphics first: on a desktop it does not stand in line with the screen.
    let graphics = |f: &vk::QueueFamilyProperties| f.queue_flags.contains(vk::QueueFlags::GRAPHICS);
    let family =
        families.iter().position(|f| computes(f) && !graphics(f)).or_else(|| families.iter().position(computes));
    let limits = &properties.limits;
    let (Some(family), true, true) = (
        family,
        properties.api_version >= vk::API_VERSION_1_1,
        limits.max_per_stage_descriptor_storage_buffers >= MAX_BINDINGS && limits.max_push_constants_size >= 128,
    ) else {
        return Ok(None);
    };
    // SAFETY: the physical device is one that this instance lists.
    let listed = instance.calls.make("vkEnumerateDeviceExtensionProperties", || unsafe {
        raw.enumerate_device_extension_properties(physical)
    })?;
    let lists = |name: &CStr| listed.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
    let version = instance.version.min(properties.api_version);
    let asked = Asked { instance, physical, properties: &properties, version, lists: &lists };
    let (tiers, mut extensions) = asked.tiers()?;
    extensions.extend([khr::portability_subset::NAME].into_iter().filter(|n| lists(n)));
    let mut maintenance = vk::PhysicalDeviceMaintenance3Properties::default();
    let mut more = vk::PhysicalDeviceProperties2::default().push_next(&mut maintenance);
    // SAFETY: the physical device is one that this instance lists.
    let memory = unsafe {
        raw.get_physical_device_properties2(physical, &mut more);
        raw.get_physical_device_memory_properties(physical)
    };
    Ok(Some(Candidate {
        physical,
        properties,
        memory,
        max_allocation: maintenance.max_memory_allocation_size,
        queue_family: family as u32,
        timestamp_bits: families[family].timestamp_valid_bits,
        tiers,
        extensions,
    }))
}

/// An open device with one queue. Everything made on it keeps it alive.
pub(crate) struct Device {
    pub(crate) raw: ash::Device,
    /// Backends on different threads take turns.
    queue: Mutex<vk::Queue>,
    /// Number of submissions to the queue.
    pub(crate) submissions: AtomicUsize,
    /// Bytes of memory held by its buffers.
    pub(crate) allocated: AtomicU64,
    /// Whether the CPU can access the device's memory.
    pub(crate) shared: bool,
    pub(crate) about: Candidate,
    pub(crate) calls: Calls,
    /// Outlives the device; last, so that it is dropped last.
    pub(crate) _instance: Instance,
}

impl Device {
    /// Opens a device by number, by default the first. `apart`: treats its memory as inaccessible to the CPU.
    /// It has all of its tiers but `lost`.
    pub(crate) fn open(
        instance: Instance,
        index: Option<usize>,
        apart: bool,
        lost: &[Tier],
    ) -> Result<Arc<Device>, Error> {
        let mut found = candidates(&instance)?;
        let (index, count) = (index.unwrap_or(0), found.len());
        if count == 0 {
            return Err(Error::NoDevice);
        }
        if index >= count {
            return Err(Error::NoSuchDevice { index, count });
        }
        let mut about = found.swap_remove(index);
        about.tiers = lost.iter().fold(about.tiers, |tiers, &tier| tiers.without(tier));
        let priorities = [1.0];
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(about.queue_family).queue_priorities(&priorities)];
        let names: Vec<_> = about.extensions.iter().map(|n| n.as_ptr()).collect();
        let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
        let mut features = Enabled::default();
        let info = features.chain(info, &about.tiers);
        let calls = instance.calls.clone();
        // SAFETY: extensions and features are ones that the device listed; every pointer outlives the call.
        let raw =
            calls.make("vkCreateDevice", || unsafe { instance.raw.create_device(about.physical, &info, None) })?;
        // SAFETY: the queue was asked for above.
        let queue = unsafe { raw.get_device_queue(about.queue_family, 0) };
        Ok(Arc::new(Device {
            raw,
            queue: Mutex::new(queue),
            submissions: AtomicUsize::new(0),
            allocated: AtomicU64::new(0),
            shared: about.unified() && !apart,
            about,
            calls,
            _instance: instance,
        }))
    }

    /// Maximum bytes of a buffer that kernels can fetch as texels.
    pub(crate) fn texel_bytes(&self) -> u64 {
        u64::from(self.limits().max_texel_buffer_elements) * TEXEL_BYTES as u64
    }

    pub(crate) fn limits(&self) -> &vk::PhysicalDeviceLimits {
        &self.about.properties.limits
    }

    /// The granularity to which storage buffer offsets are rounded down: at least 16, so that vector loads stay
    /// aligned.
    pub(crate) fn offset_alignment(&self) -> usize {
        (self.limits().min_storage_buffer_offset_alignment as usize).max(16)
    }

    /// Locks the queue for this thread.
    pub(crate) fn queue(&self) -> MutexGuard<'_, vk::Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for everything that was submitted.
    pub(crate) fn wait_idle(&self) -> Result<(), Error> {
        let _turn = self.queue();
        // SAFETY: this thread has the only queue.
        self.calls.make("vkDeviceWaitIdle", || unsafe { self.raw.device_wait_idle() })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: everything made on the device holds it alive, so all of it is gone.
        unsafe { self.raw.destroy_device(None) };
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.about.name())
    }
}
