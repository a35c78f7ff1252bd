//! Compiled pipelines, created on first use and kept. A cache on disk saves the next start from compiling them again.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Arc;

use ash::vk;

use crate::Error;
use crate::calls::Make;
use crate::device::Device;
use crate::disk_cache;
use crate::shader::Shader;

/// Bytes of push constants in every layout: Vulkan's guaranteed minimum.
pub(crate) const PUSH_BYTES: u32 = 128;
/// The types of bindings.
pub(crate) const STORAGE: vk::DescriptorType = vk::DescriptorType::STORAGE_BUFFER;
pub(crate) const TEXELS: vk::DescriptorType = vk::DescriptorType::UNIFORM_TEXEL_BUFFER;
const MAIN: &CStr = c"main";

/// The key of a compiled kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) shader: Shader,
    /// Specialisation constants: number and value.
    pub(crate) constants: Vec<(u32, u32)>,
    /// Invocations per subgroup, if the kernel depends on it.
    pub(crate) subgroup: Option<u32>,
}

/// The layouts that kernels with the same bindings share.
#[derive(Clone, Copy, Default)]
pub(crate) struct Layout {
    pub(crate) set: vk::DescriptorSetLayout,
    pub(crate) pipeline: vk::PipelineLayout,
}

/// All pipelines of a device.
pub(crate) struct Pipelines {
    /// Keyed by the number of bindings, and of texel buffers among them.
    layouts: HashMap<(u32, u32), Layout>,
    made: HashMap<Variant, vk::Pipeline>,
    cache: vk::PipelineCache,
    path: Option<PathBuf>,
    /// Number of pipelines already in the cache on disk.
    saved: usize,
    device: Arc<Device>,
}

impl Pipelines {
    /// Starts without pipelines; `path` is the cache file to load and save.
    pub(crate) fn new(device: &Arc<Device>, path: Option<PathBuf>) -> Result<Pipelines, Error> {
        let stored = path.as_deref().and_then(|path| disk_cache::load(path, &device.about.properties));
        let info = vk::PipelineCacheCreateInfo::default().initial_data(stored.as_deref().unwrap_or_default());
        // SAFETY: the data is this device's and driver's, unchanged since it was saved.
        let cache =
            device.calls.make("vkCreatePipelineCache", || unsafe { device.raw.create_pipeline_cache(&info, None) })?;
        Ok(Pipelines {
            layouts: Default::default(),
            made: HashMap::new(),
            cache,
            path,
            saved: 0,
            device: device.clone(),
        })
    }

    /// A variant's layouts and its pipeline.
    pub(crate) fn get(&mut self, variant: &Variant) -> Result<(Layout, vk::Pipeline), Error> {
        Ok((self.layout(variant.shader)?, self.pipeline(variant)?))
    }

    /// The layouts of kernels with the bindings of this one.
    fn layout(&mut self, shader: Shader) -> Result<Layout, Error> {
        let (bindings, texels) = (shader.bindings(), shader.texels());
        let (device, layout) = (&self.device, self.layouts.entry((bindings, texels)).or_default());
        if layout.set == vk::DescriptorSetLayout::null() {
            let binding = |i| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(i)
                    .descriptor_type(if i < texels { TEXELS } else { STORAGE })
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            };
            let all: Vec<_> = (0..bindings).map(binding).collect();
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&all);
            // SAFETY: plain data.
            layout.set = device.calls.make("vkCreateDescriptorSetLayout", || unsafe {
                device.raw.create_descriptor_set_layout(&info, None)
            })?;
        }
        if layout.pipeline == vk::PipelineLayout::null() {
            let sets = [layout.set];
            let push =
                [vk::PushConstantRange { stage_flags: vk::ShaderStageFlags::COMPUTE, offset: 0, size: PUSH_BYTES }];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&push);
            // SAFETY: the set layout is alive.
            layout.pipeline = device
                .calls
                .make("vkCreatePipelineLayout", || unsafe { device.raw.create_pipeline_layout(&info, None) })?;
        }
        Ok(*layout)
    }

    /// The pipeline of a variant.
    fn pipeline(&mut self, variant: &Variant) -> Result<vk::Pipeline, Error> {
        if let Some(&pipeline) = self.made.get(variant) {
            return Ok(pipeline);
        }
        let layout = self.layout(variant.shader)?;
        let device = &self.device;
        let words: Vec<u32> =
            variant.shader.code().chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let info = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: the code was validated when it was compiled.
        let module =
            device.calls.make("vkCreateShaderModule", || unsafe { device.raw.create_shader_module(&info, None) })?;
        let pipeline = self.create(variant, layout, module);
        // SAFETY: pipelines do not need their modules any more.
        unsafe { device.raw.destroy_shader_module(module, None) };
        let pipeline = pipeline?;
        self.made.insert(variant.clone(), pipeline);
        Ok(pipeline)
    }

    fn create(&self, variant: &Variant, layout: Layout, module: vk::ShaderModule) -> Result<vk::Pipeline, Error> {
        let entry = |(i, &(id, _)): (usize, &(u32, u32))| vk::SpecializationMapEntry {
            constant_id: id,
            offset: 4 * i as u32,
            size: 4,
        };
        let entries: Vec<_> = variant.constants.iter().enumerate().map(entry).collect();
        let data: Vec<u8> = variant.constants.iter().flat_map(|(_, value)| value.to_ne_bytes()).collect();
        let specialisation = vk::SpecializationInfo::default().map_entries(&entries).data(&data);
        let mut subgroup = vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default();
        let mut stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(MAIN)
            .specialization_info(&specialisation);
        if let Some(size) = variant.subgroup {
            subgroup = subgroup.required_subgroup_size(size);
            stage = stage.flags(vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS).push_next(&mut subgroup);
        }
        let info = [vk::ComputePipelineCreateInfo::default()
            .stage(stage)
            .layout(layout.pipeline)
            .flags(vk::PipelineCreateFlags::DISPATCH_BASE)];
        let device = &self.device;
        let made = device.calls.make("vkCreateComputePipelines", || {
            // SAFETY: module and layout are alive, the constants are declared by the shader.
            unsafe { device.raw.create_compute_pipelines(self.cache, &info, None) }.map_err(|(_, e)| e)
        })?;
        Ok(made[0])
    }

    /// Writes the cache to disk if it has a path and new contents. Failures are ignored: they only make the next start
    /// slower.
    pub(crate) fn save(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.made.len() > self.saved) else { return };
        let device = &self.device;
        // SAFETY: the cache is alive.
        let data =
            device.calls.make("vkGetPipelineCacheData", || unsafe { device.raw.get_pipeline_cache_data(self.cache) });
        if let Ok(data) = data {
            disk_cache::save(path, &data);
            self.saved = self.made.len();
        }
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        let raw = &self.device.raw;
        // SAFETY: backends wait for the device before they are dropped. Null handles are allowed.
        unsafe {
            self.made.values().for_each(|&pipeline| raw.destroy_pipeline(pipeline, None));
            for layout in self.layouts.values() {
                raw.destroy_pipeline_layout(layout.pipeline, None);
                raw.destroy_descriptor_set_layout(layout.set, None);
            }
            raw.destroy_pipeline_cache(self.cache, None);
        }
    }
}
