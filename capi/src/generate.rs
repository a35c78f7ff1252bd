use std::ffi::c_void;
use std::ops::ControlFlow;
use std::ptr;
use std::sync::{MutexGuard, TryLockError};

use denoir::core::pixels::Pixels;
use denoir::{DeviceMemory, Pipeline, PixelFormat, Progress, Request};

use crate::context::{denoir_context, denoir_progress, guard};
use crate::model::denoir_model;
use crate::params;
use crate::pipeline::denoir_pipeline;
use crate::pointers::{Buffer, reference};
use crate::request::denoir_request;
use crate::status::denoir_status::{DENOIR_ERROR_BUFFER, DENOIR_ERROR_BUSY};
use crate::status::{Failure, Result, denoir_status};

/// Returns the bytes that `denoir_generate` needs for `images` images of a model, with `row_stride` bytes from one line
/// to the next (0: no gap). Returns 0 if the model is NULL, the stride is shorter than a line, or the size overflows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_pixels_size(model: *const denoir_model, images: usize, row_stride: usize) -> usize {
    // SAFETY: the caller's promise.
    let Ok(model) = (unsafe { reference(model, "the model") }) else { return 0 };
    let size = Rows::of(&model.0, row_stride).ok().and_then(|rows| rows.image().checked_mul(images));
    size.unwrap_or(0)
}

/// Draws into `pixels`, which has `size` bytes: image after image, with lines from top to bottom and `channels` bytes
/// per pixel. `row_stride` is the number of bytes from one line to the next (0: no gap). Bytes in gaps are set to 0.
/// After a failure the contents of `pixels` are unspecified.
///
/// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_BUFFER`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_DEVICE`,
/// `DENOIR_ERROR_CANCELLED`, `DENOIR_ERROR_NOT_FINITE` or `DENOIR_ERROR_BUSY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_generate(
    context: *mut denoir_context,
    pipeline: *mut denoir_pipeline,
    request: *const denoir_request,
    pixels: *mut u8,
    size: usize,
    row_stride: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |context| {
            let cancels = context.cancels();
            let (mut pipeline, request) = begin(pipeline, request)?;
            let rows = Rows::of(pipeline.model(), row_stride)?;
            fits(size, rows.image().checked_mul(request.images), "bytes")?;
            let condition = request.condition(pipeline.model())?;
            let request = request.request(&condition)?;
            let mut pixels = Buffer::new(pixels, size, "the pixels")?;
            let rounding = pipeline.model().rounding();
            draw(context, cancels, &mut pipeline, &request, &mut |i, image| {
                // A sample of another size than the image's makes no pixels.
                let _ = rows.0.write(image, rounding, pixels.part(i * rows.image(), rows.image()));
            })
        })
    }
}

/// Draws into `samples`, which has `count` values: (images, channels, height, width), about -1 to 1, before conversion
/// to 8 bits.
///
/// Returns the same statuses as `denoir_generate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_generate_f32(
    context: *mut denoir_context,
    pipeline: *mut denoir_pipeline,
    request: *const denoir_request,
    samples: *mut f32,
    count: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |context| {
            let cancels = context.cancels();
            let (mut pipeline, request) = begin(pipeline, request)?;
            let values = pipeline.model().network().pixels();
            fits(count, values.checked_mul(request.images), "values")?;
            let condition = request.condition(pipeline.model())?;
            let request = request.request(&condition)?;
            let mut samples = Buffer::new(samples, count, "the samples")?;
            draw(context, cancels, &mut pipeline, &request, &mut |i, image| {
                samples.part(i * values, values).copy_from_slice(image);
            })
        })
    }
}

/// What a pixel is in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum denoir_pixel_format {
    /// Red, green, blue and alpha, a byte each: image after image, with lines from top to bottom. Alpha is 255, or the
    /// fourth channel of models that have one; images of one channel become grey. Other models have no such pixels.
    DENOIR_PIXEL_FORMAT_RGBA8 = 0,
    /// Values of 32 bits before conversion, about -1 to 1: (images, channels, height, width).
    DENOIR_PIXEL_FORMAT_F32 = 1,
}

/// Draws into memory of a CUDA device: `memory` is its address there, as `cudaMalloc` or `cuMemAlloc` gives it, a multiple
/// of 4. It has `size` bytes and belongs to the context of the pipeline: the device's primary context, or that of
/// `cuda_stream`. `format` is a `denoir_pixel_format`. `row_stride` is the number of bytes from one line to the next, a
/// multiple of 4 (0: no gap). Bytes in gaps stay as they are.
///
/// The images are complete when the function returns, and never pass through the processor's memory. Until then nothing
/// else may use the memory, except for work that `cuda_stream` already has. After a failure its contents are unspecified.
///
/// Returns the same statuses as `denoir_generate`; `DENOIR_ERROR_BACKEND` if the pipeline does not run on CUDA.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_generate_cuda(
    context: *mut denoir_context,
    pipeline: *mut denoir_pipeline,
    request: *const denoir_request,
    format: i32,
    memory: *mut c_void,
    size: usize,
    row_stride: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |context| {
            let cancels = context.cancels();
            let (mut pipeline, request) = begin(pipeline, request)?;
            const FORMATS: [PixelFormat; 2] = [PixelFormat::Rgba8, PixelFormat::F32];
            let format = usize::try_from(format).ok().and_then(|i| FORMATS.get(i).copied());
            let format = format.ok_or_else(|| Failure::argument("there is no such pixel format"))?;
            if memory.is_null() {
                return Err(Failure::argument("the device's memory is NULL"));
            }
            let row_stride = (row_stride > 0).then_some(row_stride);
            let memory = DeviceMemory::new(memory.addr() as u64, size, format, row_stride);
            let condition = request.condition(pipeline.model())?;
            let request = request.request(&condition)?;
            observed(context, cancels, &mut pipeline, |pipeline, observe| {
                pipeline.generate_on_device(&request, observe, &memory)
            })
        })
    }
}

/// Fills `values` with the starting noise of a seed for an image of `count` values. `rng` is a `denoir_rng`.
///
/// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn denoir_noise(
    context: *mut denoir_context,
    rng: i32,
    seed: u64,
    values: *mut f32,
    count: usize,
) -> denoir_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard(context, |_| {
            let rng = crate::request::rng(rng)?;
            rng.fill(seed, Buffer::new(values, count, "the values")?.part(0, count));
            Ok(())
        })
    }
}

/// Locks the pipeline for this call and reads the request.
///
/// # Safety
/// Both are NULL or valid.
unsafe fn begin<'p>(
    pipeline: *const denoir_pipeline,
    request: *const denoir_request,
) -> Result<(MutexGuard<'p, Pipeline>, denoir_request)> {
    // SAFETY: the caller promises that the pipeline is a live handle or NULL.
    let pipeline = match unsafe { reference(pipeline, "the pipeline")? }.0.try_lock() {
        Ok(pipeline) => pipeline,
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::new(DENOIR_ERROR_BUSY, "the pipeline is in use by another call"));
        }
        // After a fault of an earlier call the memory holds nothing that the next one relies on.
        Err(TryLockError::Poisoned(pipeline)) => pipeline.into_inner(),
    };
    // SAFETY: the caller promises that the request is valid as far as its size says, or NULL.
    Ok((pipeline, unsafe { params::read(request)? }))
}

fn fits(have: usize, needed: Option<usize>, what: &str) -> Result<()> {
    match needed {
        Some(needed) if needed <= have => Ok(()),
        Some(needed) => {
            let message = format!("the buffer has {have} {what}, the images take {needed}");
            Err(Failure::new(DENOIR_ERROR_BUFFER, message))
        }
        None => Err(Failure::argument("so many images are larger than memory")),
    }
}

/// Draws until somebody cancels, and passes each image to `take` with its index. `cancels` is the number of cancellation
/// requests before this call.
fn draw(
    context: &denoir_context,
    cancels: usize,
    pipeline: &mut Pipeline,
    request: &Request<'_>,
    take: &mut dyn FnMut(usize, &[f32]),
) -> Result<()> {
    observed(context, cancels, pipeline, |pipeline, observe| {
        pipeline.generate_each(request, observe, &mut |i, image| {
            take(i, image);
            Ok(())
        })
    })
}

/// Is told of every evaluation, and may stop the job.
type Observe<'o> = dyn FnMut(&mut Progress<'_>) -> ControlFlow<()> + 'o;

/// Lets `draw` draw with an observer that calls the context's callbacks, until somebody cancels.
fn observed(
    context: &denoir_context,
    cancels: usize,
    pipeline: &mut Pipeline,
    draw: impl FnOnce(&mut Pipeline, &mut Observe<'_>) -> std::result::Result<(), denoir::Error>,
) -> Result<()> {
    let (model, callbacks) = (pipeline.model().clone(), context.callbacks());
    let network = model.network();
    let batch = pipeline.batch();
    let show = |p: &mut Progress<'_>| {
        let Some(show) = callbacks.progress else { return ControlFlow::Continue(()) };
        let progress = denoir_progress {
            struct_size: size_of::<denoir_progress>(),
            image: p.image,
            images: p.images,
            step: p.step,
            steps: p.steps,
            evaluation: p.evaluation,
            evaluations: p.evaluations,
            x_hat: if callbacks.preview == 0 { ptr::null() } else { p.x_hat()?.as_ptr() },
            batch: batch.min(p.images - p.image),
            channels: network.channels(),
            height: network.input_size(),
            width: network.input_size(),
        };
        // SAFETY: the program gave the function together with its `user_data`.
        if unsafe { show(callbacks.user_data, &progress) } == 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let mut observe = |progress: &mut Progress<'_>| {
        show(progress)?;
        if context.cancels() == cancels { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    Ok(draw(pipeline, &mut observe)?)
}

/// The layout of lines in the caller's memory.
struct Rows(Pixels);

impl Rows {
    fn of(model: &denoir::Model, stride: usize) -> Result<Rows> {
        let network = model.network();
        let dense = Pixels::dense(network.channels(), network.input_size(), network.input_size());
        let stride = if stride == 0 { dense.stride } else { stride };
        if stride < dense.stride {
            let message = format!("the row stride is {stride} bytes, a line takes {}", dense.stride);
            return Err(Failure::argument(message));
        }
        match dense.height.checked_mul(stride) {
            Some(_) => Ok(Rows(Pixels { stride, ..dense })),
            None => Err(Failure::argument("the row stride is larger than memory")),
        }
    }

    /// Bytes of an image; checked in [`Rows::of`].
    fn image(&self) -> usize {
        self.0.height * self.0.stride
    }
}
