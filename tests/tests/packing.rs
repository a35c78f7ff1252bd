//! One seed gives one image, whether the weights are packed or not: a caller of core without memory to spare draws what
//! the command line draws.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use denoir::{AlignedBytes, Condition, Isa, Model, Options, Pipeline, Request};
use denoir_core::cpu::{Cpu, pack, packed_bytes};
use denoir_core::gguf::Gguf;
use denoir_core::jit::{JitModel, JitPlan};
use denoir_core::{DType, Denoiser, Job, Serial};
use denoir_tests::golden::model;
use denoir_tests::settings;

#[test]
fn the_demo_model_draws_one_image() -> Result<()> {
    let file = AlignedBytes::copied(&std::fs::read(denoir_tests::fixtures().join("demo/emoji.gguf"))?)?;
    one_image(&Arc::new(Model::from_bytes(file)?))
}

#[test]
fn every_type_draws_one_image() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        one_image(&model("forward/pg-ctx", dtype)?)?;
    }
    Ok(())
}

/// The classes of two images.
const LABELS: [u32; 2] = [1, 0];

/// Draws two images through the runtime, and through core packed and not.
fn one_image(model: &Arc<Model>) -> Result<()> {
    let condition = Condition::Labels(&LABELS);
    let request = Request { seed: 7, settings: settings(), ..Request::preset(model, condition) };
    for isa in Isa::available() {
        let options = Options { isa: Some(isa), batch: Some(2), ..Options::default() };
        let images =
            Pipeline::new(Arc::clone(model), &options)?.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        let expected: Vec<f32> = images.iter().flat_map(|image| image.sample.clone()).collect();
        for packed in [false, true] {
            let drawn = draw(model.bytes(), &request, isa, packed)?;
            assert!(drawn == expected, "{}: another image with packed = {packed}", isa.name());
        }
    }
    Ok(())
}

/// The same on core alone.
fn draw(file: &[u8], request: &Request<'_>, isa: Isa, packed: bool) -> Result<Vec<f32>> {
    let gguf = Gguf::parse(file)?;
    let network = JitModel::from_gguf(&gguf)?;
    let plan = JitPlan::new(&network, LABELS.len(), isa.precision())?;
    let mut region = AlignedBytes::zeroed(0)?;
    if packed {
        let bytes = packed_bytes(network.matrices(), isa).context("an address")?;
        region = AlignedBytes::zeroed(bytes)?;
        pack(file, network.matrices(), isa, region.as_mut_slice(), &Serial, &mut |_| {});
    }
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes)?;
    let cpu = Cpu::new(file, arena.as_mut_slice(), &Serial, isa)?.with_packed(region.as_slice());
    let seeds = [request.seed, request.seed + 1];
    let job = Job { settings: &request.settings, condition: &LABELS[..], seeds: &seeds, rng: request.rng };
    let mut images = vec![0.0; LABELS.len() * network.config.pixels()];
    Denoiser::new(&network, plan, cpu)?.generate(&job, &mut images, &mut |_| ControlFlow::Continue(()))?;
    Ok(images)
}
