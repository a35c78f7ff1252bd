use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex};

use denoir::{BackendKind, CudaStream, Isa, Options, Pipeline};

use crate::context::{denoir_context, guard};
use crate::model::denoir_model;
use crate::params::{self, Params};
use crate::pointers::{hand_out, reference, string, take_back};
use crate::status::{Failure, Result, denoir_status};

/// The memory and the device that run a model. It serves one call at a time; further calls return `DENOIR_ERROR_BUSY`.
#[derive(Debug)]
pub struct denoir_pipeline(pub(crate) Mutex<Pipeline>);

/// The backend that runs the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_backend {
    /// The fastest backend that library and machine support.
    DENOIR_BACKEND_AUTO = 0,
    /// The processor.
    DENOIR_BACKEND_CPU = 1,
    /// Vulkan compute.
    DENOIR_BACKEND_VULKAN = 2,
    /// NVIDIA CUDA.
    DENOIR_BACKEND_CUDA = 3,
}

/// The options of a pipeline. `denoir_pipeline_params_init` sets the defaults.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct denoir_pipeline_params {
    /// Bytes of this structure, set by `denoir_pipeline_params_init`.
    pub struct_size: usize,
    /// A `denoir_backend`.
    pub backend: i32,
    /// Device of the backend, as numbered by `denoir_device_info`; -1 for the first.
    pub device: i32,
    /// Processor threads, the caller's included; 0 for as many as the machine supports.
    pub threads: u32,
    /// Maximum number of images drawn together; 0 for 1. A larger batch needs more memory and gives the same images.
    pub batch: u32,
    /// Name of the instruction set, such as "avx2" or "scalar"; NULL for the fastest.
    ///
    /// The fastest may be "amx", which Linux must permit. The library asks for it only if this is "amx", or NULL and the
    /// model has int8 or bf16 weights. It then holds for the whole process, for as long as it lives, and the kernel demands
    /// larger stacks of signal handlers: `sigaltstack` fails for less than `getauxval(AT_MINSIGSTKSZ)` bytes, about 12 KiB.
    /// If a thread has a smaller one already, the kernel refuses, and the next fastest is taken. Name another instruction
    /// set to rule this out. Text encoders with int8 weights take the fastest too.
    pub isa: *const c_char,
    /// A `CUstream` or `cudaStream_t` that all work of a CUDA device goes to, in its order and in its context; chooses
    /// that backend. It must outlive the pipeline, and must not be captured while the pipeline draws. NULL: the pipeline
    /// has a stream of its own, in the device's primary context, which the CUDA runtime uses too. `cudaStreamLegacy` is the
    /// default stream.
    pub cuda_stream: *mut c_void,
}

// SAFETY: `repr(C)` of integers and a pointer, with its size first.
unsafe impl Params for denoir_pipeline_params {
    const NAME: &'static str = "the pipeline's parameters";

    fn defaults() -> Self {
        let struct_size = size_of::<Self>();
        let (isa, cuda_stream) = (std::ptr::null(), std::ptr::null_mut());
        denoir_pipeline_params { struct_size, backend: 0, device: -1, threads: 0, batch: 0, isa, cuda_stream }
    }
}

impl denoir_pipeline_params {
    /// # Safety
    /// `isa` is NULL or a string; `cuda_stream` NULL or a stream that outlives the pipeline.
    unsafe fn options(&self) -> Result<Options> {
        const KINDS: [BackendKind; 4] = [BackendKind::Auto, BackendKind::Cpu, BackendKind::Vulkan, BackendKind::Cuda];
        let kind = usize::try_from(self.backend).ok().and_then(|i| KINDS.get(i).copied());
        let isa = if self.isa.is_null() {
            None
        } else {
            // SAFETY: the caller promises that the name is a string or NULL.
            let name = unsafe { string(self.isa, "the instruction set")? };
            let unknown = || Failure::argument(format!("this processor has no instruction set {name:?}"));
            Some(Isa::from_name(name).ok_or_else(unknown)?)
        };
        Ok(Options {
            backend: kind.ok_or_else(|| Failure::argument(format!("there is no backend {}", self.backend)))?,
            device: usize::try_from(self.device).ok(),
            threads: (self.threads > 0).then_some(self.threads as usize),
            isa,
            batch: (self.batch > 0).then_some(self.batch as usize),
            // SAFETY: the caller's promise.
            cuda_stream: (!self.cuda_stream.is_null()).then(|| unsafe { CudaStream::new(self.cuda_stream) }),
        })
    }
}

/// Fills `params`, a structure of `size` bytes, with the defaults.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_pipeline_params_init(
    params: *mut denoir_pipeline_params,
    size: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe { params::write(denoir_pipeline_params::defaults(), params, size) }
        .map_or_else(|failure| failure.status, |()| denoir_status::DENOIR_OK)
}

/// Creates a pipeline and reserves everything that drawing needs. NULL for `params` means the defaults. On failure
/// `*pipeline` is NULL.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_BACKEND` or
/// `DENOIR_ERROR_DEVICE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_pipeline_new(
    context: *mut denoir_context,
    model: *const denoir_model,
    params: *const denoir_pipeline_params,
    pipeline: *mut *mut denoir_pipeline,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |context| {
            hand_out(pipeline, || {
                let model = Arc::clone(&reference(model, "the model")?.0);
                let params = if params.is_null() { denoir_pipeline_params::defaults() } else { params::read(params)? };
                let pipeline = Pipeline::new(model, &params.options()?)?;
                pipeline.warnings().iter().for_each(|warning| context.log(warning));
                Ok(denoir_pipeline(Mutex::new(pipeline)))
            })
        })
    }
}

/// Frees a pipeline; NULL does nothing. No call may use the pipeline at the same time or afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_pipeline_free(pipeline: *mut denoir_pipeline) {
    // SAFETY: the caller's promise.
    unsafe { take_back(pipeline) }
}
