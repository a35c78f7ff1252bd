use crate::{CudaStream, Isa};

/// What runs the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// The fastest that this build and machine have.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// Vulkan compute.
    Vulkan,
    /// NVIDIA CUDA.
    Cuda,
}

impl BackendKind {
    /// `auto`, `cpu`, `vulkan` or `cuda`.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::Auto => "auto",
            BackendKind::Cpu => "cpu",
            BackendKind::Vulkan => "vulkan",
            BackendKind::Cuda => "cuda",
        }
    }
}

/// Where and how a pipeline runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What runs the network.
    pub backend: BackendKind,
    /// Which device of that backend; the first by default.
    pub device: Option<usize>,
    /// Processor threads; as many as the machine has by default.
    pub threads: Option<usize>,
    /// Instruction set; the fastest by default.
    pub isa: Option<Isa>,
    /// Images that are drawn together at most, 1 by default. More need more memory and give the same images.
    pub batch: Option<usize>,
    /// A stream of the program's, which all work of a CUDA device goes to, in its order. Chooses that backend. By default
    /// a pipeline has a stream of its own, in the device's primary context.
    pub cuda_stream: Option<CudaStream>,
}

impl Options {
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(1)
    }
}
