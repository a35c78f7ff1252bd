//! Turns a kernel's descriptor into a dispatch: buffers, offsets, arguments, constants.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::vk;
use denoir_core::backend::ModelFile;
use denoir_core::{DType, Modulation, Region, TokenLayout, View};

use crate::Error;
use crate::device::Device;
use crate::hazards::Access;
use crate::memory::{Buffer, Place, Placed};
use crate::pipelines::{Pipelines, Variant};
use crate::recording::{Dispatch, Recording};
use crate::shader::Shader;
use crate::stream::Stream;
use crate::tier::Tiers;
use crate::weights::Weights;

/// A view as a kernel sees it: a binding, and where the view starts in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    /// First element, counted from the start of the binding.
    pub(crate) at: u32,
    /// Elements from one row to the next.
    pub(crate) stride: u32,
}

/// The memory and the queue that kernels are launched on.
pub(crate) struct Launcher {
    /// In drop order: first the queue, which waits for the device.
    pub(crate) stream: Stream,
    /// The open recording; without one, kernels run at once.
    open: Option<Recording>,
    /// The device's own, shared by its backends.
    pipelines: Arc<Mutex<Pipelines>>,
    pub(crate) weights: Weights,
    pub(crate) arena: Buffer,
    /// Bound to bindings that a variant does not use.
    nothing: Buffer,
    pub(crate) tiers: Tiers,
    /// Maximum floating-point operations per submission.
    pub(crate) most_flop: u64,
    /// Whether programs are recorded with timers.
    pub(crate) timed: bool,
    device: Arc<Device>,
}

impl Launcher {
    pub(crate) fn new(
        device: &Arc<Device>,
        pipelines: &Arc<Mutex<Pipelines>>,
        tiers: Tiers,
        most_flop: u64,
        file: Arc<dyn ModelFile>,
        arena_bytes: usize,
    ) -> Result<Launcher, Error> {
        Ok(Launcher {
            stream: Stream::new(device)?,
            open: None,
            pipelines: pipelines.clone(),
            weights: Weights::new(file, device.about.own_memory()),
            arena: Buffer::new(device, arena_bytes, Place::Device)?,
            nothing: Buffer::new(device, 16, Place::Device)?,
            tiers,
            most_flop,
            timed: false,
            device: device.clone(),
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn pipelines(&self) -> MutexGuard<'_, Pipelines> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts recording; weights of recorded kernels stay resident.
    pub(crate) fn open_recording(&mut self) -> Result<(), Error> {
        self.weights.stream(false);
        self.open = Some(self.recording()?);
        Ok(())
    }

    /// Stops recording, so that kernels run at once; returns the recording, if any.
    pub(crate) fn close_recording(&mut self) -> Option<Recording> {
        self.weights.stream(false);
        self.open.take()
    }

    /// Returns the location of a view; uploads weights that are not resident yet.
    fn locate(&mut self, view: &View) -> Result<Placed, Error> {
        match view.region {
            Region::Arena => {
                let len = view.len_bytes().unwrap_or(usize::MAX);
                Ok(self.arena.place(view.offset, view.stride, len))
            }
            Region::Weights => self.weights.locate(view, &mut self.stream),
        }
    }

    /// Appends a kernel to the open recording, or runs it at once in a separate recording.
    fn record(&mut self, dispatch: &Dispatch<'_>) -> Result<(), Error> {
        if let Some(open) = &mut self.open {
            return open.push(dispatch);
        }
        let mut alone = self.recording()?;
        alone.push(dispatch)?;
        self.run(alone)
    }

    fn recording(&self) -> Result<Recording, Error> {
        Recording::new(&self.device, self.most_flop, self.timed)
    }

    /// Runs a recording once and waits for it.
    fn run(&mut self, mut recording: Recording) -> Result<(), Error> {
        recording.finish()?;
        let result = self.stream.submit(&recording.segments).and_then(|()| self.stream.wait());
        if result.is_err() {
            // Its commands may be under way.
            let _ = self.device.wait_idle();
        }
        self.weights.next_kernel();
        result
    }
}

/// A dispatch under construction. Bind views in the order of the shader's bindings.
pub(crate) struct Launch<'v> {
    on: &'v mut Launcher,
    variant: Variant,
    texels: Vec<vk::BufferView>,
    buffers: Vec<vk::DescriptorBufferInfo>,
    access: Access,
}

impl<'v> Launch<'v> {
    pub(crate) fn new(on: &'v mut Launcher, shader: Shader) -> Self {
        let variant = Variant { shader, constants: Vec::new(), subgroup: None };
        Launch { on, variant, texels: Vec::new(), buffers: Vec::new(), access: Access::default() }
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

    /// Binds an optional view.
    pub(crate) fn read_some(&mut self, view: Option<&View>) -> Result<Bound, Error> {
        match view {
            Some(view) => self.read(view),
            None => Ok(self.nothing()),
        }
    }

    /// Binds an optional view.
    pub(crate) fn write_some(&mut self, view: Option<&View>) -> Result<Bound, Error> {
        match view {
            Some(view) => self.write(view),
            None => Ok(self.nothing()),
        }
    }

    /// Fills a binding that this variant does not use.
    pub(crate) fn nothing(&mut self) -> Bound {
        self.buffers.push(vk::DescriptorBufferInfo { buffer: self.on.nothing.raw, offset: 0, range: vk::WHOLE_SIZE });
        Bound::default()
    }

    /// Binds a modulation table and the rows that select from it.
    pub(crate) fn modulation(&mut self, modulation: &Modulation) -> Result<(Bound, Bound), Error> {
        Ok((self.read(&modulation.table)?, self.read(&modulation.rows)?))
    }

    /// Appends the kernel to the open recording. `flop` is its approximate work.
    pub(crate) fn run(self, push: &[u32], groups: [usize; 3], flop: usize) -> Result<(), Error> {
        let most = self.on.device().limits().max_compute_work_group_count;
        let mut counts = [0; 3];
        for ((count, groups), most) in counts.iter_mut().zip(groups).zip(most) {
            let limit = u64::from(most);
            let too_large = Error::TooLarge { what: "a kernel's grid", bytes: groups as u64, limit };
            *count = u32::try_from(groups).ok().filter(|&n| n <= most).ok_or(too_large)?;
        }
        if self.on.device().calls.is_broken(self.variant.shader.name()) {
            counts[0] = counts[0].saturating_sub(1);
        }
        if counts.contains(&0) {
            return Ok(());
        }
        let (layout, pipeline) = self.on.pipelines().get(&self.variant)?;
        self.on.record(&Dispatch {
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
        let Placed { buffer, texels, at: offset, stride, len } = self.on.locate(view)?;
        if view.region == Region::Arena {
            // Kernels access whole words.
            let bytes = offset & !3..(offset + len).next_multiple_of(4);
            if writes { &mut self.access.writes } else { &mut self.access.reads }.push(bytes);
        }
        let bound = |start| Bound { at: ((offset - start) / view.dtype.size()) as u32, stride: stride as u32 };
        if self.texels.len() < self.variant.shader.texels() as usize {
            let (end, limit) = ((offset + len) as u64, self.on.device().texel_bytes());
            self.texels.push(texels);
            let too_large = Error::TooLarge { what: "a kernel's operand and what lies before it", bytes: end, limit };
            return if end <= limit { Ok(bound(0)) } else { Err(too_large) };
        }
        let start = offset & !(self.on.device().offset_alignment() - 1);
        let range = (offset + len - start).next_multiple_of(4).max(4) as u64;
        let limit = u64::from(self.on.device().limits().max_storage_buffer_range);
        if range > limit {
            return Err(Error::TooLarge { what: "a kernel's operand", bytes: range, limit });
        }
        self.buffers.push(vk::DescriptorBufferInfo { buffer, offset: start as u64, range });
        Ok(bound(start))
    }
}

/// Converts a number for the shaders. One that does not fit was rejected together with its operand.
pub(crate) fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The number of an element type in `types.glsl`.
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

/// Workgroups of 64 for this many invocations, in two dimensions, because one may be too short.
pub(crate) fn plane(invocations: usize) -> [usize; 3] {
    let groups = invocations.div_ceil(64);
    if groups <= 65535 { [groups, 1, 1] } else { [65535, groups.div_ceil(65535), 1] }
}
