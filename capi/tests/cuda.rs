//! A host that uses CUDA itself: its stream, and its memory for the pictures.

mod common;

use std::path::Path;
use std::ptr::null_mut;

use anyhow::{Result, ensure};
use common::{Host, TINY};
use denoir_capi::denoir_pixel_format::*;
use denoir_capi::denoir_status::*;
use denoir_capi::*;
use denoir_tests::cuda::{Program, gpu};

/// Draws into a program's memory.
fn draw(host: &Host, format: i32, program: &Program, size: usize, row_stride: usize) -> denoir_status {
    let (request, memory) = (host.request(), std::ptr::without_provenance_mut(program.at as usize));
    // SAFETY: all handles are valid, the memory is the program's.
    unsafe { denoir_generate_cuda(host.context, host.pipeline, &request, format, memory, size, row_stride) }
}

#[test]
fn pictures_are_drawn_into_memory_of_the_host() -> Result<()> {
    if let Err(why) = gpu() {
        eprintln!("skipped: pictures in memory of the host on cuda: {why}");
        return Ok(());
    }
    let (mut host, _) = Host::open(Path::new(TINY), denoir_model_open);
    let mut info = denoir_model_info {
        struct_size: 0,
        width: 0,
        height: 0,
        channels: 0,
        classes: 0,
        text_tokens: 0,
        text_width: 0,
    };
    // SAFETY: all handles and places are valid.
    let described = unsafe { denoir_model_describe(host.context, host.model, &mut info, size_of_val(&info)) };
    assert_eq!(described, DENOIR_OK);
    let (width, values) = (info.width, info.channels * info.height * info.width);
    let program = Program::new(4 * values)?;
    assert_eq!(host.prepare_with(|params| params.cuda_stream = program.stream.cast()), DENOIR_OK, "{}", host.message());

    let (mut samples, request) = (vec![0f32; values], host.request());
    // SAFETY: all handles and places are valid.
    let drawn = unsafe { denoir_generate_f32(host.context, host.pipeline, &request, samples.as_mut_ptr(), values) };
    assert_eq!(drawn, DENOIR_OK, "{}", host.message());
    let f32 = DENOIR_PIXEL_FORMAT_F32 as i32;
    assert_eq!(draw(&host, f32, &program, 4 * values, 0), DENOIR_OK, "{}", host.message());
    let same = program.memory()?.chunks(4).zip(&samples).all(|(bytes, value)| bytes == value.to_le_bytes());
    ensure!(same, "other values");

    let (rgba, mut pixels) = (DENOIR_PIXEL_FORMAT_RGBA8 as i32, host.pixels(1));
    assert_eq!(host.generate(&request, &mut pixels), DENOIR_OK, "{}", host.message());
    assert_eq!(draw(&host, rgba, &program, 4 * values, 0), DENOIR_OK, "{}", host.message());
    let memory = program.memory()?;
    let same = memory.chunks(4).zip(pixels.chunks(3)).all(|(rgba, rgb)| rgba[..3] == *rgb && rgba[3] == 255);
    ensure!(same, "other pixels");

    assert_eq!(draw(&host, f32, &program, 4 * values - 1, 0), DENOIR_ERROR_BUFFER);
    assert_eq!(draw(&host, f32, &program, 4 * values, 4 * width - 4), DENOIR_ERROR_ARGUMENT);
    assert_eq!(draw(&host, 2, &program, 4 * values, 0), DENOIR_ERROR_ARGUMENT);
    // SAFETY: all handles are valid; NULL is an error.
    let null = unsafe { denoir_generate_cuda(host.context, host.pipeline, &request, f32, null_mut(), 4 * values, 0) };
    assert_eq!(null, DENOIR_ERROR_ARGUMENT);
    let cpu = Host::new(TINY, 1);
    assert_eq!(draw(&cpu, f32, &program, 4 * values, 0), DENOIR_ERROR_BACKEND, "{}", cpu.message());
    Ok(())
}
