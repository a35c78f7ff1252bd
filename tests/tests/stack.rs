//! Callers' threads may have small stacks. Tests of their own: where one fails, the process ends.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use denoir::{AlignedBytes, Condition, EncodedPrompt, Isa, Model, Options, Pipeline, Request, Rng, TextEncoder};
use denoir_core::cpu::Cpu;
use denoir_core::gguf::Gguf;
use denoir_core::jit::{JitModel, JitPlan};
use denoir_core::network::Plan;
use denoir_core::{DType, Denoiser, Error, Job, Room, Serial};
use denoir_tests::golden::model;
use denoir_tests::settings;

/// Bytes that the documents promise are enough: musl gives a thread 128 KiB, of which a program needs some itself.
const STACK: usize = 96 << 10;
/// The same of core alone, where it has scratch and a place for the model.
const CORE_STACK: usize = 72 << 10;

#[test]
fn core_needs_less() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let model = model("forward/pg-ctx", dtype)?;
        for isa in Isa::available() {
            let file = AlignedBytes::copied(model.bytes())?;
            let mut image = vec![0.0; model.network().pixels()];
            let draw = move || draw_on_core(file.as_slice(), &mut vec![0; 16 << 20], isa, &mut image);
            let thread = std::thread::Builder::new().stack_size(CORE_STACK).spawn(draw)?;
            thread.join().map_err(|_| anyhow!("{dtype}, {}: a panic", isa.name()))??;
        }
    }
    Ok(())
}

fn draw_on_core(file: &[u8], memory: &mut [u8], isa: Isa, image: &mut [f32]) -> Result<(), Error> {
    let mut room = Room::new(memory);
    let gguf = Gguf::parse(file)?;
    let model = JitModel::read_into(&gguf, room.place()?)?;
    let plan = JitPlan::new(model, 1, isa.precision())?;
    let scratch = room.bytes(isa.scratch_bytes(plan.head_dim(), plan.int8(), 1))?;
    let cpu = Cpu::new(file, room.bytes(plan.arena_bytes)?, &Serial, isa)?.with_scratch(scratch);
    let job = Job { settings: &settings(), condition: &[1][..], seeds: &[42], rng: Rng::Torch };
    Denoiser::new(model, plan, cpu)?.generate(&job, image, &mut |_| ControlFlow::Continue(()))?;
    Ok(())
}

#[test]
fn encoding_a_prompt_needs_little_stack() -> Result<()> {
    let out = tempfile::tempdir()?;
    let gguf = out.path().join("encoder.gguf");
    let folder = denoir_tests::fixtures().join("checkpoints/qwen3/model.safetensors");
    denoir_convert::convert(&folder, &gguf, &Default::default(), &mut |_| {})?;
    for isa in Isa::available() {
        let gguf = gguf.clone();
        let encode = move || -> Result<()> {
            let options = Options { isa: Some(isa), threads: Some(1), ..Options::default() };
            TextEncoder::open(&gguf)?.encode(&["a fox"], 16, &options)?;
            Ok(())
        };
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(encode)?;
        thread.join().map_err(|_| anyhow!("{}: a panic", isa.name()))??;
    }
    Ok(())
}

#[test]
fn opening_and_drawing_need_little_stack() -> Result<()> {
    for golden in ["forward/pg-ctx", "text/t2i.forward"] {
        for dtype in [DType::F32, DType::I8] {
            let model = model(golden, dtype)?;
            for isa in Isa::available() {
                let bytes = AlignedBytes::copied(model.bytes())?;
                let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || draw(bytes, isa))?;
                thread.join().map_err(|_| anyhow!("{golden}, {dtype}, {}: a panic", isa.name()))??;
            }
        }
    }
    Ok(())
}

/// Opens a model and draws an image, on this thread alone.
fn draw(bytes: AlignedBytes, isa: Isa) -> Result<()> {
    let model = Arc::new(Model::from_bytes(bytes)?);
    let mut pipeline =
        Pipeline::new(Arc::clone(&model), &Options { isa: Some(isa), threads: Some(1), ..Options::default() })?;
    let prompt = model.network().text_size().map(|(tokens, width)| EncodedPrompt {
        prompt: vec![0.5; tokens * width],
        negative: vec![0.0; tokens * width],
    });
    let condition = prompt.as_ref().map_or(Condition::Labels(&[0]), |prompt| Condition::Prompt(prompt.embeds(1)));
    let request = Request { condition, seed: 1, rng: Rng::Torch, settings: settings() };
    pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    Ok(())
}
