//! CUDA: the goldens, graphs, memory, and what happens when a call fails. The op matrix has the kernels one by one.
//! Where this machine has no driver, the kernels and the driver are emulated.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};
use denoir::core::pixels::Pixels;
use denoir::{
    BackendKind, Condition, CudaStream, Denoise, DeviceError, DeviceMemory, Error as DenoirError, Model, Pipeline,
    PixelFormat, Progress, Request,
};
use denoir_core::backend::{Backend, OpError};
use denoir_core::ops::{Epilogue, Linear, Memory, Op};
use denoir_core::pixels::DeviceImages;
use denoir_core::sampler::Rounding;
use denoir_core::{DType, Region, RunError, View, Weight};
use denoir_cuda::{CUresult, Error, Fault, Faults, Gpu, Options};
use denoir_tests::cuda::{Program, capability, discrete, emulated_objects, gpu, is_emulated, open};
use denoir_tests::golden::{self, draw, with_denoiser};
use denoir_tests::not_finite::{TYPES, VALUES, are_refused, generate, smallest};
use denoir_tests::op_matrix::backends::drive;
use denoir_tests::op_matrix::draw::Draw;

/// Some tests count what lives on the device, so that all take turns.
type Turn = MutexGuard<'static, ()>;

/// The device for a test and the test's turn on it, or nothing, after saying so.
fn device(what: &str) -> Result<Option<(&'static Gpu, Turn)>> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let required = std::env::var("DENOIR_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|name| name == "cuda");
    match gpu() {
        Ok(gpu) if !is_emulated() => Ok(Some((gpu, turn))),
        Ok(gpu) => {
            ensure!(!required, "DENOIR_REQUIRE asks for cuda, which is only emulated here");
            eprintln!("skipped: {what} on cuda: this machine has no CUDA driver (emulated instead)");
            Ok(Some((gpu, turn)))
        }
        Err(why) => {
            ensure!(!required, "DENOIR_REQUIRE asks for cuda: {why}");
            eprintln!("skipped: {what} on cuda: {why}");
            Ok(None)
        }
    }
}

/// Gives a model on a device to `f`, with room for one image.
fn on<T>(gpu: &Gpu, model: &Arc<Model>, f: impl FnOnce(&mut dyn Denoise) -> Result<T>) -> Result<T> {
    let file = Arc::new(model.bytes().to_vec());
    with_denoiser(model, gpu.precision(), |arena_bytes| Ok(gpu.backend(file, arena_bytes)?), f)
}

#[test]
fn forward_passes_agree_with_pytorch() -> Result<()> {
    let Some((gpu, _turn)) = device("forward passes")? else { return Ok(()) };
    golden::forward_passes()?.iter().try_for_each(|(name, forward)| {
        let what = format!("{name} on cuda");
        on(gpu, forward.model(), |denoiser| golden::check_forward(&what, forward, denoiser))
    })
}

#[test]
fn weights_that_are_not_finite_are_refused() -> Result<()> {
    let Some((gpu, _turn)) = device("weights that are not finite")? else { return Ok(()) };
    TYPES.into_iter().try_for_each(|dtype| {
        // int8 alone has its own way with them.
        let values = if dtype == DType::I8 { &VALUES[..] } else { &VALUES[..1] };
        smallest(dtype)?.iter().try_for_each(|file| {
            are_refused(&format!("{dtype} on cuda"), file, values, &|model| {
                on(gpu, model, |denoiser| Ok(generate(model, denoiser)))
            })
        })
    })
}

#[test]
fn samples_agree_with_pytorch() -> Result<()> {
    let Some((gpu, _turn)) = device("samples")? else { return Ok(()) };
    golden::samples()?.iter().try_for_each(|(name, sample)| {
        let what = format!("{name} on cuda");
        on(gpu, sample.model(), |denoiser| golden::check_sample(&what, sample, denoiser))
    })
}

/// `1 + 8 · 2^-exponent` as tensor cores add it: a block of eight products after one that made 1.
fn one_and_eight_small(gpu: &Gpu, exponent: i32) -> Result<f64> {
    let mut d = Draw::new(1);
    let x = d.place_aligned(DType::F16, 1, 16);
    d.fill(&x, |_, _, c| if c < 8 { f64::from(u8::from(c == 0)) } else { (-12f64).exp2() });
    let w = d.place(Region::Weights, DType::F16, 1, 16);
    d.fill(&w, |_, _, c| if c < 8 { 1.0 } else { f64::from(12 - exponent).exp2() });
    let out = d.output(DType::F32, 1, 1);
    let w = Weight { data: w, scale: None, residual: None };
    let op = Linear { x, x_scale: None, shared_mean: None, w, bias: None, out, epilogue: Epilogue::Store };
    let case = d.finish(Op::Linear(op), []);
    let mut cuda = gpu.backend(Arc::new(case.weights.as_slice().to_vec()), case.arena.len())?;
    let mut after = drive(&mut cuda, &case).map_err(anyhow::Error::msg)?;
    Ok(Memory { weights: &[], arena: &mut after }.load(&out, 0, 0))
}

#[test]
fn tensor_cores_truncate_small_products() -> Result<()> {
    let Some((gpu, _turn)) = device("tensor cores")? else { return Ok(()) };
    for exponent in [24, 25, 26] {
        let got = one_and_eight_small(gpu, exponent)?;
        let exact = 1.0 + 8.0 * f64::from(-exponent).exp2();
        println!("1 + 8 · 2^-{exponent} is {}", if got == exact { "exact" } else { "truncated" });
        // As on compute capability 8.x; 9.0 keeps one bit more.
        let want = if exponent <= 24 { exact } else { 1.0 };
        ensure!(!is_emulated() || got == want, "1 + 8 · 2^-{exponent} is {got}, not {want}");
    }
    Ok(())
}

/// A device whose calls can be made to fail, and the model to draw with.
fn faulty() -> Result<(Gpu, Arc<Faults>, Arc<Model>)> {
    let faults = Arc::new(Faults::new());
    let gpu = open(&Options { faults: Some(faults.clone()), ..Options::default() })?;
    Ok((gpu, faults, golden::model("forward/jit", DType::I8)?))
}

#[test]
fn graphs_are_captured_once_and_draw_the_same() -> Result<()> {
    let Some((_, _turn)) = device("graphs")? else { return Ok(()) };
    let (gpu, faults, model) = faulty()?;
    let pixels = model.network().pixels();
    on(&gpu, &model, |denoiser| {
        let mut counted = || {
            let before = faults.calls();
            draw(denoiser, pixels).map(|image| (image, faults.calls() - before))
        };
        let ((first, recording), (second, replaying)) = (counted()?, counted()?);
        println!("{recording} calls with capture, {replaying} with replay");
        ensure!(first == second, "the replayed image differs");
        // The modulation program alone is launched kernel by kernel.
        ensure!(replaying * 3 < recording, "{replaying} calls of a replay, {recording} of a recording");
        Ok(())
    })
}

#[test]
fn devices_whose_kernels_overlap_draw_the_same() -> Result<()> {
    let Some((_, _turn)) = device("kernels that overlap")? else { return Ok(()) };
    if !is_emulated() {
        return Ok(());
    }
    let image = |tenfold| {
        capability(tenfold);
        let image = faulty().and_then(|(gpu, _, model)| {
            on(&gpu, &model, |denoiser| draw(denoiser, model.network().pixels()))
                .map(|image| (gpu.info().compute, image))
        });
        capability(87);
        image
    };
    let (orin, hopper) = (image(87)?, image(90)?);
    ensure!((orin.0, hopper.0) == ((8, 7), (9, 0)), "{:?} and {:?}", orin.0, hopper.0);
    // Tiles differ, their bytes do not.
    ensure!(orin.1 == hopper.1, "the image depends on how kernels are launched");
    Ok(())
}

#[test]
fn only_memory_of_its_own_holds_the_modulation_weights() -> Result<()> {
    let Some((_, _turn)) = device("memory of its own")? else { return Ok(()) };
    // A second image, and the calls that it takes.
    let again = |own| {
        discrete(own);
        let device = faulty();
        discrete(false);
        let (gpu, faults, model) = device?;
        on(&gpu, &model, |denoiser| {
            draw(denoiser, model.network().pixels())?;
            let before = faults.calls();
            draw(denoiser, model.network().pixels()).map(|image| (image, faults.calls() - before))
        })
    };
    let ((streamed, copying), (kept, calls)) = (again(false)?, again(true)?);
    println!("{copying} calls with copies, {calls} without");
    ensure!(streamed == kept, "the image depends on where weights are");
    ensure!(!is_emulated() || calls < copying, "{calls} calls, {copying} with copies");
    Ok(())
}

/// Bytes of images as they lie in a device's memory that was filled with 7.
fn expected(
    pipeline: &mut Pipeline,
    request: &Request<'_>,
    bytes: usize,
    format: PixelFormat,
    stride: usize,
) -> Result<Vec<u8>> {
    let images = pipeline.generate(request, &mut |_| ControlFlow::Continue(()))?;
    let (side, mut memory) = (images[0].height, vec![7; bytes]);
    let mut lines = memory.chunks_mut(stride);
    for image in &images {
        if format == PixelFormat::F32 {
            for line in image.sample.chunks(side) {
                lines.next().expect("a line")[..4 * side].copy_from_slice(bytemuck::cast_slice(line));
            }
            continue;
        }
        for line in image.to_u8(pipeline.model().rounding()).chunks(3 * side) {
            let pixels = lines.next().expect("a line")[..4 * side].chunks_mut(4).zip(line.chunks(3));
            pixels.for_each(|(rgba, rgb)| rgba.copy_from_slice(&[rgb[0], rgb[1], rgb[2], 255]));
        }
    }
    Ok(memory)
}

#[test]
fn images_are_drawn_into_memory_of_the_program() -> Result<()> {
    let Some((_, _turn)) = device("memory of the program")? else { return Ok(()) };
    let before = is_emulated().then(emulated_objects);
    let model = golden::model("forward/jit", DType::I8)?;
    let side = model.network().input_size();
    let mut request = Request { seed: 3, ..Request::preset(&model, Condition::Labels(&[0, 1, 1])) };
    request.settings.steps = 2;
    let mut go_on = |_: &mut Progress<'_>| ControlFlow::Continue(());
    for (format, planes) in [(PixelFormat::Rgba8, 1), (PixelFormat::F32, 3)] {
        for (gap, on_stream) in [(None, false), (Some(12), true)] {
            let stride = 4 * side + gap.unwrap_or(0);
            let bytes = 3 * planes * side * stride;
            let program = Program::new(bytes)?;
            // SAFETY: the stream lives until the pipeline is gone; only this test uses the memory, here and below.
            let cuda_stream = on_stream.then(|| unsafe { CudaStream::new(program.stream.cast()) });
            let backend = if on_stream { BackendKind::Auto } else { BackendKind::Cuda };
            let options = denoir::Options { backend, batch: Some(2), cuda_stream, ..denoir::Options::default() };
            let mut pipeline = Pipeline::new(model.clone(), &options)?;
            ensure!(pipeline.device().backend == BackendKind::Cuda, "{:?}", pipeline.device());
            let expected = expected(&mut pipeline, &request, bytes, format, stride)?;
            // The stream does this before it draws; nobody waits.
            program.fill(7)?;
            if !on_stream {
                program.wait()?;
            }
            // SAFETY: as above.
            let memory = |bytes, stride| unsafe { DeviceMemory::new(program.at, bytes, format, stride) };
            pipeline.generate_on_device(&request, &mut go_on, &memory(bytes, gap.map(|_| stride)))?;
            ensure!(program.memory()? == expected, "{format:?} on stream: {on_stream}");
            let small = pipeline.generate_on_device(&request, &mut go_on, &memory(bytes - 1, Some(stride)));
            ensure!(matches!(small, Err(DenoirError::Room { needed, .. }) if needed == bytes), "{small:?}");
            let odd = pipeline.generate_on_device(&request, &mut go_on, &memory(bytes, Some(stride + 2)));
            ensure!(matches!(odd, Err(DenoirError::Layout(_))), "{odd:?}");
        }
    }
    if let Some((before, _)) = before {
        ensure!(emulated_objects().0 == before, "{} objects are alive, {before} were", emulated_objects().0);
    }
    Ok(())
}

#[test]
fn streams_of_the_program_are_checked() -> Result<()> {
    let Some((_, _turn)) = device("streams of the program")? else { return Ok(()) };
    let program = Program::new(64)?;
    // SAFETY: the stream outlives what is made with it.
    let other = unsafe { Gpu::open_on(program.stream, &Options { device: Some(1), ..Options::default() }) };
    ensure!(matches!(other, Err(Error::StreamOfOtherDevice { asked: 1, stream_of: 0 })), "{other:?}");
    // SAFETY: the same; the memory is used by nobody, for nothing is drawn.
    let (stream, memory) = unsafe {
        (CudaStream::new(program.stream.cast()), DeviceMemory::new(program.at, 1 << 20, PixelFormat::F32, None))
    };
    let model = golden::model("forward/jit", DType::I8)?;
    let on = |cuda_stream| denoir::Options { backend: BackendKind::Cpu, cuda_stream, ..denoir::Options::default() };
    let refused = Pipeline::new(model.clone(), &on(Some(stream)));
    ensure!(matches!(&refused, Err(DenoirError::Backend(why)) if why.contains("cpu")), "{refused:?}");
    let mut cpu = Pipeline::new(model.clone(), &on(None))?;
    let request = Request::preset(&model, Condition::Labels(&[0]));
    let refused = cpu.generate_on_device(&request, &mut |_| ControlFlow::Continue(()), &memory);
    ensure!(matches!(refused, Err(DenoirError::Backend(_))), "{refused:?}");
    Ok(())
}

#[test]
fn images_that_are_not_finite_are_refused_on_the_device_too() -> Result<()> {
    let Some((gpu, _turn)) = device("images that are not finite")? else { return Ok(()) };
    let program = Program::new(64)?;
    let pixels = Pixels::dense(1, 2, 2);
    let images = |format| DeviceImages {
        at: program.at,
        format,
        pixels: Pixels { stride: 8, ..pixels },
        rounding: Rounding::PixelGen,
    };
    let x = View::dense(Region::Arena, DType::F32, 0, 2, 4);
    let mut cuda = gpu.backend(Arc::new(Vec::new()), 1 << 10)?;
    for (value, finite) in [(0.5f32, true), (f32::NAN, false), (f32::NEG_INFINITY, false)] {
        for format in [PixelFormat::Rgba8, PixelFormat::F32] {
            cuda.write(&x, bytemuck::cast_slice(&[0.0, -1.0, 1.0, 2.0, 0.0, 0.0, 0.0, value]))?;
            // SAFETY: the view and the images have the same size, and the program's memory has room for them.
            ensure!(unsafe { cuda.write_images(&x, &images(format)) }? == finite, "{value}");
        }
        // SAFETY: the same.
        unsafe { cuda.write_images(&x, &images(PixelFormat::Rgba8)) }?;
        let grey = [128, 128, 128, 255, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        ensure!(program.memory()?[..16] == grey, "{:?}", program.memory()?);
    }
    Ok(())
}

/// Makes calls of `job` fail, each in a run of its own: the first hundred, then one of `every`. Returns how many calls
/// a run makes.
fn each_call_fails(
    faults: &Faults,
    every: usize,
    result: impl Fn(u64) -> CUresult,
    job: impl Fn() -> Result<()>,
) -> Result<u64> {
    // The first time there is more to do: modules are loaded.
    job()?;
    let before = faults.calls();
    job()?;
    let calls = faults.calls() - before;
    for after in (0..calls.min(100)).chain((100..calls).step_by(every)) {
        faults.arm(Fault { after, call: None, result: result(after) });
        let done = job();
        ensure!(faults.disarm(), "there is no call {after} of {calls}");
        match done {
            Ok(()) => bail!("call {after} of {calls} failed unnoticed"),
            Err(e) => ensure!(typed(&e), "call {after}: {e:#} has no type"),
        }
    }
    job()?;
    Ok(calls)
}

/// Whether an error is the backend's, from making an backend or from running one.
fn typed(e: &anyhow::Error) -> bool {
    let run = matches!(e.downcast_ref(), Some(DenoirError::Run(RunError::Op(OpError::Device(DeviceError::Cuda(_))))));
    run || e.is::<Error>()
}

#[test]
fn every_call_of_a_job_can_fail() -> Result<()> {
    let Some((_, _turn)) = device("failing calls")? else { return Ok(()) };
    let (gpu, faults, model) = faulty()?;
    let job = || on(&gpu, &model, |denoiser| draw(denoiser, model.network().pixels()).map(drop));
    let lost = |after| match after % 2 {
        0 => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        _ => CUresult::CUDA_ERROR_OUT_OF_MEMORY,
    };
    // Modules stay loaded from the first time that they are needed.
    job()?;
    let before = is_emulated().then(emulated_objects);
    let calls = each_call_fails(&faults, 1, lost, job)?;
    println!("{calls} calls failed one by one");
    if let Some((before, _)) = before {
        ensure!(emulated_objects().0 == before, "{} objects are alive, {before} were", emulated_objects().0);
    }
    Ok(())
}

#[test]
fn every_call_of_opening_can_fail() -> Result<()> {
    let Some((_, _turn)) = device("failing calls")? else { return Ok(()) };
    let faults = Arc::new(Faults::new());
    let job = || Ok(open(&Options { faults: Some(faults.clone()), ..Options::default() }).map(drop)?);
    let before = is_emulated().then(emulated_objects);
    // Most are the same calls for one kernel of the self-test after the other.
    let calls = each_call_fails(&faults, 17, |_| CUresult::CUDA_ERROR_OUT_OF_MEMORY, job)?;
    println!("some of {calls} calls of opening failed one by one");
    if let Some((before, _)) = before {
        ensure!(emulated_objects().0 == before, "{} objects are alive, {before} were", emulated_objects().0);
    }
    Ok(())
}

#[test]
fn errors_name_what_a_device_lacks() -> Result<()> {
    let Some((_, _turn)) = device("devices")? else { return Ok(()) };
    let missing = open(&Options { device: Some(99), ..Options::default() });
    ensure!(matches!(missing, Err(Error::NoSuchDevice { index: 99, .. })), "{missing:?}");
    let faults = Arc::new(Faults::new());
    let options = Options { faults: Some(faults.clone()), ..Options::default() };
    faults.arm(Fault { after: 0, call: Some("cuDeviceGetCount"), result: CUresult::CUDA_ERROR_NO_DEVICE });
    let none = open(&options);
    ensure!(matches!(none, Err(Error::NoDevice)), "{none:?}");
    let lost = CUresult::CUDA_ERROR_ECC_UNCORRECTABLE;
    faults.arm(Fault { after: 0, call: Some("cuGraphLaunch"), result: lost });
    let lost = open(&options);
    let Err(Error::InSelfTest { kernel: "linear_f32", source }) = lost else { bail!("{lost:?}") };
    ensure!(matches!(*source, Error::DeviceLost { call: "cuGraphLaunch", .. }), "{source:?}");
    let full = CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    faults.arm(Fault { after: 0, call: Some("cuGraphLaunch"), result: full });
    let full = open(&options);
    ensure!(matches!(full, Err(Error::OutOfDeviceMemory { .. })), "{full:?}");
    let vast = open(&options)?.backend(Arc::new(Vec::new()), 1 << 45);
    ensure!(matches!(vast, Err(Error::OutOfDeviceMemory { bytes, free: Some(_), .. }) if bytes == 1 << 45), "{vast:?}");
    ensure!(open(&options).is_ok(), "a device that was lost is opened anew");
    Ok(())
}
