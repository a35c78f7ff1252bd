//! Vulkan: the goldens at every tier, and what happens when a call fails. The op matrix has the kernels one by one.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use denoir::{AlignedBytes, Condition, Engine, Method, Model, Network, Rng, Settings};
use denoir_core::jit::JitPlan;
use denoir_core::network::Plan;
use denoir_core::t2i::{T2iPlan, Texts};
use denoir_core::{DType, Denoiser, Job};
use denoir_tests::op_matrix::backends::asked_for;
use denoir_tests::vulkan::{gpu, options, quiet};
use denoir_vulkan::{Fault, Faults, Gpu, Messages, Options, Tier, Validation, vk};
use safetensors::SafeTensors;

/// `fixtures/forward` with every block, and the text-to-image network.
const FORWARD: [&str; 4] = ["forward/pg-ctx", "forward/pg-xl", "forward/jit", "text/t2i.forward"];
/// Samples that hold every solver and both projects.
const SAMPLES: [&str; 5] = ["pg-ctx.heun", "pg-ctx.adams2", "pg-ctx.unguided", "pg-xl.heun", "jit.heun-jit"];
/// The final samples of upstream and of any device in f32.
const SAMPLE_LIMIT: f64 = 1e-3;

struct Fixture {
    folder: PathBuf,
    bytes: Vec<u8>,
    meta: HashMap<String, String>,
}

impl Fixture {
    fn open(name: &str) -> Result<Fixture> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let meta = header.metadata().clone().unwrap_or_default();
        Ok(Fixture { folder: path.parent().context("a folder")?.to_owned(), bytes, meta })
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(SafeTensors::deserialize(&self.bytes)?.tensor(name)?.data()))
    }

    fn text(&self, key: &str) -> Result<&str> {
        Ok(self.meta.get(key).with_context(|| format!("no {key}"))?)
    }

    fn number(&self, key: &str) -> Result<f64> {
        Ok(self.text(key)?.parse()?)
    }

    fn model(&self, dtype: DType) -> Result<Arc<Model>> {
        let out = tempfile::tempdir()?;
        let gguf = out.path().join("model.gguf");
        let options = denoir_convert::Options {
            dtype: Some(dtype),
            config: Some(self.folder.join(self.text("config")?)),
            weights: Some(self.text("weights")?.into()),
            ..Default::default()
        };
        denoir_convert::convert(&self.folder.join(self.text("model")?), &gguf, &options, &mut |_| {})?;
        Ok(Arc::new(Model::from_bytes(AlignedBytes::copied(&std::fs::read(gguf)?)?)?))
    }

    fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            method: Method::from_name(self.text("method")?).context("a method")?,
            steps: self.text("steps")?.parse()?,
            cfg_scale: self.number("cfg_scale")?,
            guidance_interval: (self.number("guidance_lo")?, self.number("guidance_hi")?),
            flow_shift: self.number("flow_shift")?,
            noise_scale: self.number("noise_scale")?,
            order: self.text("order")?.parse()?,
        })
    }
}

/// Gives a model on a device to `f`, with room for one image.
fn engine<T>(gpu: &Gpu, model: &Model, f: impl FnOnce(&mut dyn Engine) -> Result<T>) -> Result<T> {
    match model.network() {
        Network::Jit(m) => {
            let plan = JitPlan::new(m, 1, gpu.precision())?;
            f(&mut Denoiser::new(m, plan, gpu.engine(model.bytes(), plan.arena_bytes())?)?)
        }
        Network::T2i(m) => {
            let plan = T2iPlan::new(m, 1, gpu.precision())?;
            f(&mut Denoiser::new(m, plan, gpu.engine(model.bytes(), plan.arena_bytes())?)?)
        }
        _ => anyhow::bail!("a network that this test does not know"),
    }
}

/// Runs a test on every tier that there is.
fn on_every_tier(what: &str, test: impl Fn(Tier, &Gpu) -> Result<()>) -> Result<()> {
    let mut ran = 0;
    let required = std::env::var("DENOIR_REQUIRE").unwrap_or_default();
    let is_required = |name: &str| required.split(',').any(|required| required == name);
    for tier in Tier::ALL.into_iter().filter(|tier| asked_for(&format!("vulkan/{tier}"))) {
        match gpu(tier) {
            Ok(gpu) => {
                test(tier, gpu)?;
                quiet().map_err(anyhow::Error::msg)?;
                ran += 1;
            }
            Err(why) => {
                ensure!(!is_required(&format!("vulkan/{tier}")), "DENOIR_REQUIRE asks for vulkan/{tier}: {why}");
                eprintln!("skipped: {what} on vulkan/{tier}: {why}");
            }
        }
    }
    ensure!(ran > 0 || !is_required("vulkan"), "DENOIR_REQUIRE asks for vulkan");
    Ok(())
}

#[test]
fn forward_passes_agree_with_pytorch() -> Result<()> {
    let mut models = Vec::new();
    for name in FORWARD {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
            let fixture = Fixture::open(name)?;
            models.push((name, dtype, fixture.model(dtype)?, fixture));
        }
    }
    on_every_tier("forward passes", |tier, gpu| {
        // The highest tier differs for these types alone.
        let differs = |dtype: DType| tier != Tier::Matrix || matches!(dtype, DType::F16 | DType::I8);
        for (name, dtype, model, fixture) in models.iter().filter(|(_, dtype, ..)| differs(*dtype)) {
            let error = engine(gpu, model, |engine| forward(engine, fixture))?;
            let limit = if *dtype == DType::F32 { 1e-5 } else { fixture.number(&format!("limit.{dtype}"))? };
            println!("{name} in {dtype} on {tier}: {error:.1e}");
            ensure!(error <= limit, "{name} in {dtype} on {tier}: {error:.1e}, not {limit:.1e}");
        }
        Ok(())
    })
}

/// ‖Δ‖/‖x̂‖ over the images of a fixture.
fn forward(engine: &mut dyn Engine, fixture: &Fixture) -> Result<f64> {
    let (x, t, want) = (fixture.values("x")?, fixture.values("t")?, fixture.values("x_hat")?);
    let (images, pixels) = (t.len(), x.len() / t.len());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (i, &t) in t.iter().enumerate() {
        let pixels = i * pixels..(i + 1) * pixels;
        match fixture.values("text") {
            Ok(text) => {
                let text = text.chunks_exact(text.len() / images).nth(i).context("a text")?;
                engine.prepare(t.into(), Condition::Texts(Texts { prompt: text, negative: text, images: 1 }))?;
            }
            Err(_) => engine.prepare(t.into(), Condition::Labels(&[fixture.values("label")?[i].to_bits()]))?,
        }
        let mut x_hat = vec![f32::NAN; pixels.len()];
        engine.predict(&x[pixels.clone()], &mut x_hat)?;
        for (got, want) in x_hat.iter().zip(&want[pixels]) {
            difference += f64::from(got - want).powi(2);
            norm += f64::from(*want).powi(2);
        }
    }
    Ok((difference / norm).sqrt())
}

#[test]
fn samples_agree_with_pytorch() -> Result<()> {
    let mut models = Vec::new();
    for name in SAMPLES {
        let fixture = Fixture::open(&format!("sample/{name}"))?;
        models.push((name, fixture.model(DType::F32)?, fixture));
    }
    on_every_tier("samples", |tier, gpu| {
        for (name, model, fixture) in &models {
            let want = fixture.values("sample")?;
            let mut got = vec![f32::NAN; want.len()];
            let (settings, seed, labels) =
                (fixture.settings()?, fixture.number("seed")? as u64, [fixture.text("label")?.parse()?]);
            engine(gpu, model, |engine| {
                let condition = Condition::Labels(&labels);
                let job = Job { settings: &settings, condition, seeds: &[seed], rng: Rng::Torch };
                Ok(engine.generate(&job, &mut got, &mut |_| ControlFlow::Continue(()))?)
            })?;
            let worst = got.iter().zip(&want).map(|(got, want)| f64::from((got - want).abs())).fold(0.0, f64::max);
            println!("{name} on {tier}: {worst:.1e}");
            // A NaN fails.
            ensure!(got.iter().all(|x| x.is_finite()) && worst <= SAMPLE_LIMIT, "{name} on {tier}: {worst:.1e}");
        }
        Ok(())
    })
}

/// Draws a small image.
fn draw(gpu: &Gpu, model: &Model) -> Result<()> {
    let settings = Settings { steps: 2, ..denoir_tests::settings() };
    let mut image = vec![0.0; model.network().pixels()];
    engine(gpu, model, |engine| {
        let job = Job { settings: &settings, condition: Condition::Labels(&[1]), seeds: &[1], rng: Rng::Philox };
        Ok(engine.generate(&job, &mut image, &mut |_| ControlFlow::Continue(()))?)
    })
}

/// A device with faults, and what the validation layers say of it, leaks at its end among them.
fn faulty() -> (Options, Arc<Faults>, Messages) {
    let (faults, messages) = (Arc::new(Faults::new()), Messages::default());
    let validation = Validation::On(messages.clone());
    (Options { validation, faults: Some(faults.clone()), ..options(Some(Tier::Floor)) }, faults, messages)
}

fn silent(messages: &Messages) -> Result<()> {
    let all = messages.all();
    ensure!(all.is_empty(), "{} validation messages: {}", all.len(), all[0]);
    Ok(())
}

#[test]
fn every_call_of_a_job_can_fail() -> Result<()> {
    let fixture = Fixture::open("forward/jit")?;
    let model = fixture.model(DType::F32)?;
    let (options, faults, messages) = faulty();
    let gpu = match Gpu::open(&options) {
        Ok(gpu) => gpu,
        Err(why) if gpu(Tier::Floor).is_err() => {
            eprintln!("skipped: failing calls on vulkan/floor: {why}");
            return Ok(());
        }
        Err(why) => return Err(why.into()),
    };
    draw(&gpu, &model)?;
    let before = faults.calls();
    draw(&gpu, &model)?;
    let calls = faults.calls() - before;
    for after in 0..calls {
        let lost = after % 2 == 0;
        let result = if lost { vk::Result::ERROR_DEVICE_LOST } else { vk::Result::ERROR_OUT_OF_DEVICE_MEMORY };
        faults.arm(Fault { after, call: None, result });
        let drawn = draw(&gpu, &model);
        ensure!(faults.disarm(), "there is no call {after}");
        // The last call is the wait when the engine ends, which has nothing to report to.
        ensure!(drawn.is_err() || after + 2 >= calls, "call {after} of {calls} failed unnoticed");
    }
    draw(&gpu, &model)?;
    drop(gpu);
    println!("{calls} calls failed one by one");
    silent(&messages)
}

#[test]
fn every_call_of_opening_and_compiling_can_fail() -> Result<()> {
    let (options, faults, messages) = faulty();
    if let Err(why) = Gpu::open(&options) {
        ensure!(gpu(Tier::Floor).is_err(), "{why}");
        eprintln!("skipped: failing calls on vulkan/floor: {why}");
        return Ok(());
    }
    let calls = faults.calls();
    // All calls up to the first engine, then some of the self-test's, which are those of any job.
    for after in (0..calls.min(24)).chain((24..calls).step_by(7)) {
        faults.arm(Fault { after, call: None, result: vk::Result::ERROR_OUT_OF_HOST_MEMORY });
        let opened = Gpu::open(&options);
        ensure!(faults.disarm(), "there is no call {after}");
        ensure!(opened.is_err() || after > 24, "call {after} of {calls} failed unnoticed");
    }
    let model = Fixture::open("forward/jit")?.model(DType::F32)?;
    for call in ["vkCreateShaderModule", "vkCreateComputePipelines", "vkCreateDescriptorSetLayout"] {
        for after in [1, 3, 6] {
            let gpu = Gpu::open(&options)?;
            faults.arm(Fault { after, call: Some(call), result: vk::Result::ERROR_OUT_OF_HOST_MEMORY });
            let drawn = draw(&gpu, &model);
            ensure!(!faults.disarm() || drawn.is_err(), "{call} failed unnoticed");
        }
    }
    println!("{calls} calls of opening");
    silent(&messages)
}
