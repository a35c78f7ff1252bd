use std::ffi::{CString, c_char};
use std::ptr;

use denoir::{BackendKind, Device};

use crate::context::{denoir_context, guard};
use crate::params::{self, Params};
use crate::pipeline::denoir_backend;
use crate::pointers::{hand_out, reference, take_back};
use crate::status::{Failure, denoir_status};

/// A snapshot of the devices that the library can use on this machine.
#[derive(Debug)]
pub struct denoir_device_list(Vec<Named>);

/// A device, with its texts as C strings.
#[derive(Debug)]
struct Named {
    device: Device,
    name: CString,
    level: CString,
}

impl Named {
    fn new(device: Device) -> Named {
        // Names come from drivers: a NUL in one ends it.
        let c_string = |text: &str| CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default();
        let level = c_string(device.levels.last().copied().unwrap_or_default());
        Named { name: c_string(&device.name), level, device }
    }
}

/// A device. Later versions add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_device_info {
    /// Bytes of this structure.
    pub struct_size: usize,
    /// A `denoir_backend`, for `backend` of `denoir_pipeline_params`.
    pub backend: i32,
    /// The device's number, for `device` of `denoir_pipeline_params`.
    pub device: i32,
    /// The device's name. Valid as long as the list.
    pub name: *const c_char,
    /// The fastest instruction set or feature tier of the device. Valid as long as the list.
    pub level: *const c_char,
    /// Bytes of memory; 0 if the system does not report them.
    pub memory_bytes: u64,
    /// Processor threads; 0 if the device is not the processor.
    pub threads: usize,
}

// SAFETY: `repr(C)` of numbers and pointers, with its size first.
unsafe impl Params for denoir_device_info {
    const NAME: &'static str = "the device's description";

    fn defaults() -> Self {
        let (name, level) = (ptr::null(), ptr::null());
        denoir_device_info {
            struct_size: size_of::<Self>(),
            backend: 0,
            device: 0,
            name,
            level,
            memory_bytes: 0,
            threads: 0,
        }
    }
}

/// Lists the devices, the processor first. On failure `*list` is NULL.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_device_list_new(
    context: *mut denoir_context,
    list: *mut *mut denoir_device_list,
) -> denoir_status {
    let make = || Ok(denoir_device_list(denoir::devices().into_iter().map(Named::new).collect()));
    // SAFETY: the caller's promise.
    unsafe { guard(context, |_| hand_out(list, make)) }
}

/// Returns the number of devices in a list; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_device_list_count(list: *const denoir_device_list) -> usize {
    // SAFETY: the caller's promise.
    unsafe { reference(list, "the list") }.map_or(0, |list| list.0.len())
}

/// Fills `info`, a structure of `size` bytes, with device `index` of a list, counted from 0.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_device_list_describe(
    context: *mut denoir_context,
    list: *const denoir_device_list,
    index: usize,
    info: *mut denoir_device_info,
    size: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| {
            let devices = &reference(list, "the list")?.0;
            let none = || Failure::argument(format!("there is no device {index} in a list of {}", devices.len()));
            let Named { device, name, level } = devices.get(index).ok_or_else(none)?;
            let backend = match device.backend {
                BackendKind::Auto => denoir_backend::DENOIR_BACKEND_AUTO,
                BackendKind::Cpu => denoir_backend::DENOIR_BACKEND_CPU,
                BackendKind::Vulkan => denoir_backend::DENOIR_BACKEND_VULKAN,
                BackendKind::Cuda => denoir_backend::DENOIR_BACKEND_CUDA,
            };
            let described = denoir_device_info {
                struct_size: size,
                backend: backend as i32,
                device: device.index as i32,
                name: name.as_ptr(),
                level: level.as_ptr(),
                memory_bytes: device.memory_bytes.unwrap_or(0),
                threads: device.threads,
            };
            params::write(described, info, size)
        })
    }
}

/// Frees a list; NULL does nothing. The strings of its devices become invalid too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_device_list_free(list: *mut denoir_device_list) {
    // SAFETY: the caller's promise.
    unsafe { take_back(list) }
}
