//! From a kernel's descriptor to a dispatch: buffers, offsets, arguments, constants.

use ash::vk;
use denoir_core::{DType, Modulation, Region, TokenLayout, View};

use crate::Error;
use crate::engine::Vulkan;
use crate::hazards::Access;
use crate::pipelines::Variant;
use crate::recording::Dispatch;
use crate::shader::Shader;

/// A view as a kernel sees it: a binding, and where the view starts in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    /// First element, counted from the start of the binding.
    pub(crate) at: u32,
    /// Elements from one row to the next.
    pub(crate) stride: u32,
}

/// Bytes of a texel.
pub(crate) const TEXEL_BYTES: usize = 16;

/// Where a view lies on the device.
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

/// A dispatch in the making. Views are bound in the order of the shader's bindings.
pub(crate) struct Launch<'v> {
    vulkan: &'v mut Vulkan,
    variant: Variant,
    texels: Vec<vk::BufferView>,
    buffers: Vec<vk::DescriptorBufferInfo>,
    access: Access,
}

impl<'v> Launch<'v> {
    pub(crate) fn new(vulkan: &'v mut Vulkan, shader: Shader) -> Self {
        let variant = Variant { shader, constants: Vec::new(), subgroup: None };
        Launch { vulkan, variant, texels: Vec::new(), buffers: Vec::new(), access: Access::default() }
    }

    /// Sets a specialisation constant.
    pub(crate) fn constant(&mut self, id: u32, value: u32) {
        self.variant.constants.push((id, value));
    }

    /// Sets the size of a subgroup; the device's choice by default.
    pub(crate) fn subgroup(&mut self, size: Option<u32>) {
        self.variant.subgroup = size;
    }

    /// Binds a view that the kernel reads.
    pub(crate) fn read(&mut self, view: &View) -> Result<Bound, Error> {
        self.bind(view, false)
    }

    /// Binds a view that the kernel writes, or reads and writes.
    pub(crate) fn write(&mut self, view: &View) -> Result<Bound, Error> {
        self.bind(view, true)
    }

    /// Binds a view that the kernel may not have.
    pub(crate) fn read_some(&mut self, view: Option<&View>) -> Result<Bound, Error> {
        match view {
            Some(view) => self.read(view),
            None => Ok(self.nothing()),
        }
    }

    /// Binds a view that the kernel may not have.
    pub(crate) fn write_some(&mut self, view: Option<&View>) -> Result<Bound, Error> {
        match view {
            Some(view) => self.write(view),
            None => Ok(self.nothing()),
        }
    }

    /// Binds something to a binding that this variant does not touch.
    pub(crate) fn nothing(&mut self) -> Bound {
        self.buffers.push(vk::DescriptorBufferInfo {
            buffer: self.vulkan.nothing.raw,
            offset: 0,
            range: vk::WHOLE_SIZE,
        });
        Bound::default()
    }

    /// Binds a modulation table and the rows that select from it.
    pub(crate) fn modulation(&mut self, modulation: &Modulation) -> Result<(Bound, Bound), Error> {
        Ok((self.read(&modulation.table)?, self.read(&modulation.rows)?))
    }

    /// Appends the kernel to the open recording. `flop`: about how much work it is.
    pub(crate) fn run(self, push: &[u32], groups: [usize; 3], flop: usize) -> Result<(), Error> {
        let most = self.vulkan.device().limits().max_compute_work_group_count;
        let mut counts = [0; 3];
        for ((count, groups), most) in counts.iter_mut().zip(groups).zip(most) {
            let limit = u64::from(most);
            let too_large = Error::TooLarge { what: "a kernel's grid", bytes: groups as u64, limit };
            *count = u32::try_from(groups).ok().filter(|&n| n <= most).ok_or(too_large)?;
        }
        if self.vulkan.device().calls.is_broken(self.variant.shader.name()) {
            counts[0] = counts[0].saturating_sub(1);
        }
        if counts.contains(&0) {
            return Ok(());
        }
        let (layout, pipeline) = self.vulkan.pipelines().get(&self.variant)?;
        self.vulkan.record(&Dispatch {
            name: self.variant.shader.name(),
            pipeline,
            layout,
            texels: &self.texels,
            buffers: &self.buffers,
            push,
            groups: counts,
            access: &self.access,
            flop: flop as u64,
        })
    }

    fn bind(&mut self, view: &View, writes: bool) -> Result<Bound, Error> {
        let Placed { buffer, texels, at: offset, stride, len } = self.vulkan.locate(view)?;
        if view.region == Region::Arena {
            // Kernels access whole words.
            let bytes = offset & !3..(offset + len).next_multiple_of(4);
            if writes { &mut self.access.writes } else { &mut self.access.reads }.push(bytes);
        }
        let bound = |start| Bound { at: ((offset - start) / view.dtype.size()) as u32, stride: stride as u32 };
        if self.texels.len() < self.variant.shader.texels() as usize {
            let (end, limit) = ((offset + len) as u64, self.vulkan.device().texel_bytes());
            self.texels.push(texels);
            let too_large = Error::TooLarge { what: "a kernel's operand and what lies before it", bytes: end, limit };
            return if end <= limit { Ok(bound(0)) } else { Err(too_large) };
        }
        let start = offset & !(self.vulkan.device().offset_alignment() - 1);
        let range = (offset + len - start).next_multiple_of(4).max(4) as u64;
        let limit = u64::from(self.vulkan.device().limits().max_storage_buffer_range);
        if range > limit {
            return Err(Error::TooLarge { what: "a kernel's operand", bytes: range, limit });
        }
        self.buffers.push(vk::DescriptorBufferInfo { buffer, offset: start as u64, range });
        Ok(bound(start))
    }
}

/// A number as shaders see it; what does not fit was refused with the operand that has so many elements.
pub(crate) fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The element type as `types.glsl` numbers it.
pub(crate) fn element_type(dtype: DType) -> u32 {
    match dtype {
        DType::F32 | DType::U32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::I8 => 3,
    }
}

/// The three numbers of a token layout.
pub(crate) fn layout_words(layout: &TokenLayout) -> [u32; 3] {
    [word(layout.images), word(layout.image_tokens), word(layout.context_tokens)]
}

/// Workgroups of 64 for so many invocations: a plane, because a line may be too long.
pub(crate) fn plane(invocations: usize) -> [usize; 3] {
    let groups = invocations.div_ceil(64);
    if groups <= 65535 { [groups, 1, 1] } else { [65535, groups.div_ceil(65535), 1] }
}
