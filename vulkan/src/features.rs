//! The device features that each tier needs, and how to enable them.

use std::ffi::CStr;

use ash::{khr, vk};

use crate::calls::Make;
use crate::tier::{Matrix, Tiers};
use crate::{Error, instance::Instance, quirks};

/// Bytes of a row that `linear_matrix.comp` multiplies in an even number of steps, and elements of the smallest step.
const SLAB_BYTES: u32 = 64;
const LEAST_DEPTH: u32 = 8;

/// A physical device to query.
pub(crate) struct Asked<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) physical: vk::PhysicalDevice,
    pub(crate) properties: &'a vk::PhysicalDeviceProperties,
    /// The Vulkan version to use with it.
    pub(crate) version: u32,
    /// Whether it lists an extension.
    pub(crate) lists: &'a dyn Fn(&CStr) -> bool,
}

impl Asked<'_> {
    /// The tiers that the device's features allow, and the extensions to enable for them.
    pub(crate) fn tiers(&self) -> Result<(Tiers, Vec<&'static CStr>), Error> {
        let mut float = vk::PhysicalDeviceShaderFloat16Int8Features::default();
        let mut dot = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default();
        let mut features = vk::PhysicalDeviceFeatures2::default();
        if self.version >= vk::API_VERSION_1_2 || (self.lists)(khr::shader_float16_int8::NAME) {
            features = features.push_next(&mut float);
        }
        if self.version >= vk::API_VERSION_1_3 || (self.lists)(khr::shader_integer_dot_product::NAME) {
            features = features.push_next(&mut dot);
        }
        // SAFETY: the chain holds only structures that the device knows.
        unsafe { self.instance.raw.get_physical_device_features2(self.physical, &mut features) };
        let (fp16, int8) = (float.shader_float16 == vk::TRUE, dot.shader_integer_dot_product == vk::TRUE);
        let matrix = if fp16 { self.matrix(float.shader_int8 == vk::TRUE)? } else { None };
        let extensions = [
            (fp16, khr::shader_float16_int8::NAME),
            (int8, khr::shader_integer_dot_product::NAME),
            (matrix.is_some(), khr::cooperative_matrix::NAME),
        ];
        let listed = extensions.into_iter().filter(|(used, name)| *used && (self.lists)(name)).map(|(_, name)| name);
        Ok((Tiers { fp16, packed: fp16, int8, matrix }, listed.collect()))
    }

    /// The driver, of Vulkan 1.2.
    fn driver(&self) -> vk::DriverId {
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: the chain holds only structures that the device knows.
        unsafe { self.instance.raw.get_physical_device_properties2(self.physical, &mut properties) };
        driver.driver_id
    }

    /// The cooperative matrices that the kernels can use. They need Vulkan 1.3 for its memory model and fixed subgroup
    /// size.
    fn matrix(&self, bytes: bool) -> Result<Option<Matrix>, Error> {
        if self.version < vk::API_VERSION_1_3 || !(self.lists)(khr::cooperative_matrix::NAME) {
            return Ok(None);
        }
        if !quirks::has_sound_matrices(self.properties, self.driver()) {
            return Ok(None);
        }
        let mut feature = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
        let mut memory = vk::PhysicalDeviceVulkanMemoryModelFeatures::default();
        let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut feature).push_next(&mut memory);
        let (mut size, mut sizes) = (
            vk::PhysicalDeviceSubgroupProperties::default(),
            vk::PhysicalDeviceSubgroupSizeControlProperties::default(),
        );
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut size).push_next(&mut sizes);
        // SAFETY: the chains hold only structures that the device knows.
        unsafe {
            self.instance.raw.get_physical_device_features2(self.physical, &mut features);
            self.instance.raw.get_physical_device_properties2(self.physical, &mut properties);
        }
        let fixed = sizes.required_subgroup_size_stages.contains(vk::ShaderStageFlags::COMPUTE);
        let needed = [feature.cooperative_matrix, memory.vulkan_memory_model, memory.vulkan_memory_model_device_scope];
        // A row of attention belongs to a few invocations.
        let exchanges =
            size.supported_operations.contains(vk::SubgroupFeatureFlags::SHUFFLE | vk::SubgroupFeatureFlags::VOTE);
        if needed.contains(&vk::FALSE) || !fixed || !exchanges {
            return Ok(None);
        }
        let instance = khr::cooperative_matrix::Instance::new(&self.instance.entry, &self.instance.raw);
        let shapes = self.instance.calls.make("vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", || {
            // SAFETY: the device lists the extension.
            unsafe { instance.get_physical_device_cooperative_matrix_properties(self.physical) }
        })?;
        use vk::ComponentTypeKHR as Type;
        let f16 = shape(&shapes, (Type::FLOAT16, 2), Type::FLOAT32);
        let int8 = shape(&shapes, (Type::SINT8, 1), Type::SINT32).filter(|_| bytes);
        let subgroup = match quirks::has_matrices_of_smallest_subgroups(self.properties) {
            true => sizes.min_subgroup_size,
            false => size.subgroup_size.clamp(sizes.min_subgroup_size, sizes.max_subgroup_size),
        };
        Ok((f16.is_some() || int8.is_some()).then_some(Matrix { f16, int8, subgroup }))
    }
}

/// The largest (M, N, K) of a type and its bytes, with sums of a type, that the kernels can use.
fn shape(
    listed: &[vk::CooperativeMatrixPropertiesKHR<'_>],
    (element, bytes): (vk::ComponentTypeKHR, u32),
    sum: vk::ComponentTypeKHR,
) -> Option<[u32; 3]> {
    let usable = |p: &&vk::CooperativeMatrixPropertiesKHR<'_>| {
        let row = p.k_size * bytes;
        (p.a_type, p.b_type, p.c_type, p.result_type) == (element, element, sum, sum)
            && p.scope == vk::ScopeKHR::SUBGROUP
            && p.saturating_accumulation == vk::FALSE
            && p.k_size >= LEAST_DEPTH
            && SLAB_BYTES.is_multiple_of(2 * row)
    };
    let largest = listed.iter().filter(usable).max_by_key(|p| p.m_size * p.n_size * p.k_size)?;
    Some([largest.m_size, largest.n_size, largest.k_size])
}

/// The structures that enable the features of the tiers.
#[derive(Default)]
pub(crate) struct Enabled {
    float: vk::PhysicalDeviceShaderFloat16Int8Features<'static>,
    dot: vk::PhysicalDeviceShaderIntegerDotProductFeatures<'static>,
    memory: vk::PhysicalDeviceVulkanMemoryModelFeatures<'static>,
    subgroups: vk::PhysicalDeviceSubgroupSizeControlFeatures<'static>,
    matrix: vk::PhysicalDeviceCooperativeMatrixFeaturesKHR<'static>,
}

impl Enabled {
    /// Adds them to a device's create info.
    pub(crate) fn chain<'a>(
        &'a mut self,
        mut info: vk::DeviceCreateInfo<'a>,
        tiers: &Tiers,
    ) -> vk::DeviceCreateInfo<'a> {
        // Matrices have 16 bits too, also where a device is lost in the tier of that name.
        if tiers.fp16 || tiers.matrix.is_some() {
            let bytes = tiers.matrix.is_some_and(|matrix| matrix.int8.is_some());
            self.float = self.float.shader_float16(true).shader_int8(bytes);
            info = info.push_next(&mut self.float);
        }
        if tiers.int8 {
            self.dot = self.dot.shader_integer_dot_product(true);
            info = info.push_next(&mut self.dot);
        }
        if tiers.matrix.is_some() {
            // The atomics of other kernels have the device's scope, which this model has as a feature of its own.
            self.memory = self.memory.vulkan_memory_model(true).vulkan_memory_model_device_scope(true);
            self.subgroups = self.subgroups.subgroup_size_control(true).compute_full_subgroups(true);
            self.matrix = self.matrix.cooperative_matrix(true);
            info = info.push_next(&mut self.memory).push_next(&mut self.subgroups).push_next(&mut self.matrix);
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vk::ComponentTypeKHR as Type;

    fn listed(types: [vk::ComponentTypeKHR; 2], [m, n, k]: [u32; 3]) -> vk::CooperativeMatrixPropertiesKHR<'static> {
        let [element, sum] = types;
        vk::CooperativeMatrixPropertiesKHR::default()
            .a_type(element)
            .b_type(element)
            .c_type(sum)
            .result_type(sum)
            .scope(vk::ScopeKHR::SUBGROUP)
            .m_size(m)
            .n_size(n)
            .k_size(k)
    }

    #[test]
    fn the_largest_usable_shape_is_taken() {
        let (f16, f32) = (Type::FLOAT16, Type::FLOAT32);
        let shapes = [
            listed([f16, f16], [32, 32, 32]),
            listed([f16, f32], [16, 8, 16]),
            listed([f16, f32], [16, 16, 16]),
            listed([f16, f32], [16, 16, 48]),
            listed([f16, f32], [16, 16, 32]),
            listed([f16, f32], [64, 64, 4]),
            listed([Type::SINT8, Type::SINT32], [16, 16, 32]),
            listed([Type::SINT8, Type::SINT32], [64, 64, 32]).saturating_accumulation(true),
            listed([Type::SINT8, Type::SINT32], [64, 64, 32]).scope(vk::ScopeKHR::WORKGROUP),
        ];
        assert_eq!(shape(&shapes, (f16, 2), f32), Some([16, 16, 16]), "sums in f16, and rows that do not halve a slab");
        assert_eq!(shape(&shapes, (Type::SINT8, 1), Type::SINT32), Some([16, 16, 32]));
        assert_eq!(shape(&shapes, (Type::UINT8, 1), Type::UINT32), None);
    }
}
