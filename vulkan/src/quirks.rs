//! What drivers are known to do wrong that no self-test can find, or not in time.

use ash::vk;

/// Drivers whose cooperative matrices are not used.
struct Quirk {
    vendor: u32,
    /// Any driver of the vendor, if there is none.
    drivers: &'static [vk::DriverId],
    /// Only devices of this type.
    only: Option<vk::PhysicalDeviceType>,
}

const AMD: u32 = 0x1002;
const QUALCOMM: u32 = 0x5143;
const INTEL: u32 = 0x8086;

const QUIRKS: [Quirk; 2] = [
    // Asking for the matrices' shapes crashes the process: llama.cpp's pull request 22750, AMDVLK's issue 422.
    Quirk {
        vendor: AMD,
        drivers: &[vk::DriverId::AMD_PROPRIETARY, vk::DriverId::AMD_OPEN_SOURCE],
        only: Some(vk::PhysicalDeviceType::INTEGRATED_GPU),
    },
    // Wrong products where lanes come from gl_SubgroupInvocationID, where a specialisation constant is the size of a
    // shared array, and from some strides: ncnn's pull request 6972. What a self-test finds depends on the shape.
    Quirk { vendor: QUALCOMM, drivers: &[], only: None },
];

/// Whether cooperative matrices of this device can be used, as far as is known.
pub(crate) fn has_sound_matrices(device: &vk::PhysicalDeviceProperties, driver: vk::DriverId) -> bool {
    !QUIRKS.iter().any(|quirk| {
        quirk.vendor == device.vendor_id
            && (quirk.drivers.is_empty() || quirk.drivers.contains(&driver))
            && quirk.only.is_none_or(|only| only == device.device_type)
    })
}

/// Whether matrices are made for the smallest subgroups that the device has, whatever size it prefers otherwise. Intel's
/// are: 8 lanes before Xe2, 16 from then on.
pub(crate) fn has_matrices_of_smallest_subgroups(device: &vk::PhysicalDeviceProperties) -> bool {
    device.vendor_id == INTEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_told_apart() {
        let device =
            |vendor_id, device_type| vk::PhysicalDeviceProperties { vendor_id, device_type, ..Default::default() };
        let (integrated, discrete) = (vk::PhysicalDeviceType::INTEGRATED_GPU, vk::PhysicalDeviceType::DISCRETE_GPU);
        for (device, driver, sound) in [
            (device(AMD, integrated), vk::DriverId::AMD_PROPRIETARY, false),
            (device(AMD, integrated), vk::DriverId::MESA_RADV, true),
            (device(AMD, discrete), vk::DriverId::AMD_PROPRIETARY, true),
            (device(QUALCOMM, integrated), vk::DriverId::QUALCOMM_PROPRIETARY, false),
            (device(INTEL, integrated), vk::DriverId::INTEL_OPEN_SOURCE_MESA, true),
        ] {
            assert_eq!(
                has_sound_matrices(&device, driver),
                sound,
                "{:x}, driver {}",
                device.vendor_id,
                driver.as_raw()
            );
        }
    }
}
