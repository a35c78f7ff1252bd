//! Vulkan: the goldens at every tier, and what happens when a call fails. The op matrix has the kernels one by one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use denoir::{AnyNetwork, Denoise, Model};
use denoir_core::backend::{self, Backend, Program};
use denoir_core::ops::ClassCondition;
use denoir_core::{DType, Region, View};
use denoir_tests::golden::{self, with_denoiser};
use denoir_tests::not_finite::{VALUES, are_refused, generate, smallest};
use denoir_tests::op_matrix::backends::asked_for;
use denoir_tests::vulkan::{gpu, options, quiet};
use denoir_vulkan::{Error, Fault, Faults, Gpu, Messages, Options, Tier, Unused, Validation, vk};

/// Gives a model on a device to `f`, with room for one image.
fn on<T>(gpu: &Gpu, model: &Arc<Model>, f: impl FnOnce(&mut dyn Denoise) -> Result<T>) -> Result<T> {
    with_denoiser(model, gpu.precision(), |arena_bytes| Ok(gpu.backend(model.clone(), arena_bytes)?), f)
}

/// Opens a device in a test's own way; nothing, after saying so, where there is none.
fn open(what: &str, options: &Options) -> Result<Option<Gpu>> {
    match Gpu::open(options) {
        Ok(gpu) => Ok(Some(gpu)),
        Err(why) if gpu(Tier::Floor).is_err() => {
            eprintln!("skipped: {what} on vulkan/floor: {why}");
            Ok(None)
        }
        Err(why) => Err(why.into()),
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
    let passes = golden::forward_passes()?;
    on_every_tier("forward passes", |tier, gpu| {
        passes.iter().try_for_each(|(name, forward)| {
            let what = format!("{name} on vulkan/{tier}");
            on(gpu, forward.model(), |denoiser| golden::check_forward(&what, forward, denoiser))
        })
    })
}

#[test]
fn samples_agree_with_pytorch() -> Result<()> {
    let samples = golden::samples()?;
    on_every_tier("samples", |tier, gpu| {
        samples.iter().try_for_each(|(name, sample)| {
            let what = format!("{name} on vulkan/{tier}");
            on(gpu, sample.model(), |denoiser| golden::check_sample(&what, sample, denoiser))
        })
    })
}

#[test]
fn weights_that_are_not_finite_are_refused() -> Result<()> {
    on_every_tier("weights that are not finite", |tier, gpu| {
        // What a tier does in a way of its own. Draws with validation are slow: infinities have one turn.
        let types: &[(DType, &[f32])] = match tier {
            Tier::Floor => &[(DType::F32, &[f32::NAN]), (DType::I8, &VALUES)],
            Tier::Fp16 => &[(DType::F16, &[f32::NAN]), (DType::BF16, &VALUES)],
            Tier::Int8 => &[(DType::I8, &[f32::NAN])],
            Tier::Matrix => &[(DType::BF16, &[f32::NAN]), (DType::I8, &[f32::NAN])],
        };
        types.iter().try_for_each(|&(dtype, values)| {
            smallest(dtype)?.iter().try_for_each(|file| {
                are_refused(&format!("{dtype} on vulkan/{tier}"), file, values, &|model| {
                    on(gpu, model, |denoiser| Ok(generate(model, denoiser)))
                })
            })
        })
    })
}

/// Draws a small image.
fn draw(gpu: &Gpu, model: &Arc<Model>) -> Result<Vec<f32>> {
    on(gpu, model, |denoiser| golden::draw(denoiser, model.network().pixels()))
}

/// Draws a small image with submissions of so much work and time, and counts them.
fn draw_in_parts(gpu: &Gpu, model: &Arc<Model>, flop: u64, longest: Duration) -> Result<(Vec<f32>, usize)> {
    let open = |arena_bytes| {
        let mut vulkan = gpu.backend(model.clone(), arena_bytes)?;
        vulkan.limit_submissions(flop, longest);
        Ok(vulkan)
    };
    let before = gpu.submissions();
    // A processor's first runs are not judged: it compiles in them.
    let draw = |denoiser: &mut dyn Denoise| {
        golden::draw(denoiser, model.network().pixels())?;
        golden::draw(denoiser, model.network().pixels())
    };
    let image = with_denoiser(model, gpu.precision(), open, draw)?;
    Ok((image, gpu.submissions() - before))
}

#[test]
fn long_submissions_are_cut_without_a_trace() -> Result<()> {
    let model = golden::model("forward/jit", DType::F32)?;
    // A device of its own: others' submissions would be counted.
    let messages = Messages::default();
    let validation = Validation::Synchronisation(messages.clone());
    let Some(gpu) = open("long submissions", &Options { validation, ..options(Some(Tier::Floor)) })? else {
        return Ok(());
    };
    let (ever, never) = (Duration::MAX, Duration::ZERO);
    let (whole, once) = draw_in_parts(&gpu, &model, u64::MAX, ever)?;
    let (halves, twice) = draw_in_parts(&gpu, &model, 1_000_000, ever)?;
    let (parts, many) = draw_in_parts(&gpu, &model, 100_000, ever)?;
    // One submission a program is far too long by this measure, which shows in the second image.
    let (corrected, more) = draw_in_parts(&gpu, &model, u64::MAX, never)?;
    println!("{once} submissions, {twice}, {many}; {more} corrected");
    ensure!(once < twice && twice < many, "{once}, {twice} and {many} submissions");
    ensure!(more > once, "{more} submissions after {once}: not corrected");
    ensure!(whole == halves && whole == parts && whole == corrected, "the image depends on how it is cut");
    silent(&messages)
}

#[test]
fn modulation_weights_pass_through_little_memory() -> Result<()> {
    let model = golden::model("forward/jit", DType::F32)?;
    let AnyNetwork::Jit(network) = model.network() else { bail!("another network") };
    let matrices = || network.modulation_matrices().map(|weight| weight.data.len_bytes().unwrap_or(0));
    let (all, largest) = (matrices().sum::<usize>(), matrices().max().unwrap_or(0));
    let mut images = Vec::new();
    // As on a device that shares the processor's memory, and as on a card.
    for apart in [false, true] {
        let messages = Messages::default();
        let validation = Validation::Synchronisation(messages.clone());
        let Some(gpu) = open("memory of weights", &Options { validation, apart, ..options(Some(Tier::Floor)) })? else {
            return Ok(());
        };
        let (image, held) = on(&gpu, &model, |denoiser| {
            let empty = gpu.allocated_bytes();
            let image = golden::draw(denoiser, model.network().pixels())?;
            Ok((image, (gpu.allocated_bytes() - empty) as usize))
        })?;
        let file = model.bytes().len();
        println!("{held} bytes on the device of {file}, of them {all} of modulation, {largest} in a matrix");
        ensure!(held < file - all + largest, "{held} bytes on the device of {file}, of them {all} of modulation");
        ensure!(gpu.allocated_bytes() == 0, "{} bytes stay on the device", gpu.allocated_bytes());
        images.push(image);
        drop(gpu);
        silent(&messages)?;
    }
    ensure!(images[0] == images[1], "the image depends on how weights come to the device");
    Ok(())
}

#[test]
fn large_weights_arrive_through_small_staging_memory() -> Result<()> {
    let messages = Messages::default();
    let validation = Validation::Synchronisation(messages.clone());
    let as_card = Options { validation, apart: true, ..options(Some(Tier::Floor)) };
    let Some(gpu) = open("large weights", &as_card)? else { return Ok(()) };
    // More rows than the staging memory has room for, and rows that are longer than that.
    for (rows, cols) in [(6000, 601), (3, 700_001)] {
        let value = |i: usize| (i % 8191) as f32 / 8191.0;
        let table = View::dense(Region::Weights, DType::F32, 0, rows, cols);
        let file: Vec<u8> = (0..rows * cols).flat_map(|i| value(i).to_le_bytes()).collect();
        let chosen = [0, rows / 2, rows - 1];
        let t_emb = View::dense(Region::Arena, DType::F32, 0, 1, cols);
        let labels = View::dense(Region::Arena, DType::U32, 4 * cols, 1, chosen.len());
        let out = View::dense(Region::Arena, DType::F32, 4 * (cols + chosen.len()), chosen.len(), cols);
        let op = ClassCondition { t_emb, table, labels, out };
        let mut vulkan = gpu.backend(Arc::new(file), 4 * (cols + chosen.len() + chosen.len() * cols))?;
        vulkan.write(&t_emb, &vec![0; 4 * cols])?;
        vulkan.write(&labels, &chosen.map(|label| (label as u32).to_le_bytes()).concat())?;
        let done = backend::run(&mut vulkan, Program::replayed("op", [0; 2]), |k| k.class_condition(&op));
        done.map_err(|e| anyhow!("{e:?}"))?;
        let mut got = vec![0; 4 * chosen.len() * cols];
        vulkan.read(&out, &mut got)?;
        for (i, bytes) in got.chunks_exact(4).enumerate() {
            let x = f64::from(value(chosen[i / cols] * cols + i % cols));
            let (got, want) = (f64::from(f32::from_le_bytes(bytes.try_into()?)), x / (1.0 + (-x).exp()));
            ensure!((got - want).abs() <= 1e-6, "{rows} rows of {cols}: {got} and not {want} at {i}");
        }
    }
    drop(gpu);
    silent(&messages)
}

/// A device with faults, and what the validation layers say of it, leaks at its end among them. `apart`: its memory is
/// written to as a card's is.
fn faulty(apart: bool) -> (Options, Arc<Faults>, Messages) {
    let (faults, messages) = (Arc::new(Faults::new()), Messages::default());
    let validation = Validation::On(messages.clone());
    (Options { validation, faults: Some(faults.clone()), apart, ..options(Some(Tier::Floor)) }, faults, messages)
}

fn silent(messages: &Messages) -> Result<()> {
    let all = messages.all();
    ensure!(all.is_empty(), "{} validation messages: {}", all.len(), all[0]);
    Ok(())
}

#[test]
fn every_call_of_a_job_can_fail() -> Result<()> {
    let model = golden::model("forward/jit", DType::F32)?;
    for apart in [false, true] {
        let (options, faults, messages) = faulty(apart);
        let Some(gpu) = open("failing calls", &options)? else { return Ok(()) };
        draw(&gpu, &model)?;
        let before = faults.calls();
        draw(&gpu, &model)?;
        let calls = faults.calls() - before;
        for after in 0..calls {
            let lost = after % 2 == 0;
            let result = if lost { vk::Result::ERROR_DEVICE_LOST } else { vk::Result::ERROR_OUT_OF_HOST_MEMORY };
            faults.arm(Fault { after, call: None, result });
            let drawn = draw(&gpu, &model);
            ensure!(faults.disarm(), "there is no call {after}");
            // The last call is the wait when the backend ends, which has nothing to report to.
            ensure!(drawn.is_err() || after + 2 >= calls, "call {after} of {calls} failed unnoticed");
        }
        draw(&gpu, &model)?;
        ensure!(gpu.allocated_bytes() == 0, "{} bytes stay on the device", gpu.allocated_bytes());
        drop(gpu);
        println!("{calls} calls failed one by one");
        silent(&messages)?;
    }
    Ok(())
}

#[test]
fn wrong_linear_and_attention_kernels_are_found() -> Result<()> {
    let (options, faults, messages) = faulty(false);
    let options = Options { tier: None, ..options };
    if open("wrong kernels", &options)?.is_none() {
        return Ok(());
    }
    let mut found = Vec::new();
    for (kernel, tier) in [
        ("linear", Tier::Floor),
        ("linear_int8", Tier::Floor),
        ("attention", Tier::Floor),
        ("attention_texel", Tier::Floor),
        ("linear.fp16", Tier::Fp16),
        ("linear_int8.dot", Tier::Int8),
        ("linear_matrix", Tier::Matrix),
        ("linear_matrix.bf16", Tier::Matrix),
        ("linear_matrix.int8", Tier::Matrix),
        ("attention_matrix", Tier::Matrix),
    ] {
        faults.break_kernel(kernel);
        let opened = Gpu::open(&options);
        // Not every device has every kernel.
        if !faults.mend_kernel() {
            continue;
        }
        found.push(kernel);
        match opened {
            Err(Error::SelfTest { .. }) if tier == Tier::Floor => {}
            Ok(gpu) if gpu.unused_tiers() == [(tier, Unused::Wrong)] && !gpu.tiers().has(tier) => {}
            Ok(gpu) => bail!("{kernel} is wrong, but {:?} and not {tier}", gpu.unused_tiers()),
            Err(why) => bail!("{kernel} is wrong: {why}"),
        }
    }
    faults.break_kernel("linear.packed");
    let opened = Gpu::open(&options);
    if faults.mend_kernel() {
        let gpu = opened?;
        let bf16 = gpu.precision().bf16;
        ensure!(bf16 == DType::F32 || gpu.tiers().has(Tier::Matrix), "products in f16 are wrong, but used");
        ensure!(gpu.unused_tiers().is_empty(), "{:?} for wrong products in f16", gpu.unused_tiers());
        found.push("linear.packed");
    }
    println!("found: {}", found.join(", "));
    ensure!(["linear", "linear_int8", "attention"].iter().all(|kernel| found.contains(kernel)), "only {found:?} ran");
    silent(&messages)
}

/// A tier whose kernels the driver refuses, or in which the device is lost, is left out, and all else goes on.
#[test]
fn tiers_that_crash_are_left_out() -> Result<()> {
    let (options, faults, messages) = faulty(false);
    let options = Options { tier: None, ..options };
    let Some(sound) = open("tiers that crash", &options)? else { return Ok(()) };
    ensure!(sound.unused_tiers().is_empty(), "{:?}", sound.unused_tiers());
    let model = golden::model("forward/jit", DType::F32)?;
    let image = draw(&sound, &model)?;
    let optional: Vec<Tier> = sound.tiers().list().filter(|&tier| tier != Tier::Floor).collect();
    let precision = sound.precision();
    drop(sound);
    for (call, result, why) in [
        ("vkCreateComputePipelines", vk::Result::ERROR_UNKNOWN, Unused::NotCompiled),
        ("vkQueueSubmit", vk::Result::ERROR_DEVICE_LOST, Unused::Lost),
    ] {
        let mut left_out = Vec::new();
        for after in 0.. {
            if left_out.len() == optional.len() {
                break;
            }
            faults.arm(Fault { after, call: Some(call), result });
            let opened = Gpu::open(&options);
            if !faults.disarm() {
                // The self-test makes fewer calls than that.
                break;
            }
            match opened {
                // A kernel of the floor.
                Err(Error::Call { .. } | Error::DeviceLost { .. }) => {}
                Err(other) => bail!("{call} failed {after} times: {other}"),
                // Products in f16 are a part of a tier.
                Ok(gpu) if gpu.unused_tiers().is_empty() && gpu.precision().bf16 != precision.bf16 => {}
                Ok(gpu) => {
                    let [(tier, reason)] = gpu.unused_tiers() else { bail!("{:?}", gpu.unused_tiers()) };
                    ensure!(*reason == why && !gpu.tiers().has(*tier), "{tier} {reason}: {:?}", gpu.tiers());
                    if !left_out.contains(tier) {
                        left_out.push(*tier);
                        ensure!(draw(&gpu, &model)? == image, "f32 changed without {tier}");
                    }
                }
            }
        }
        println!("{call}: left out {left_out:?} of {optional:?}");
        ensure!(optional.iter().all(|tier| left_out.contains(tier)), "{call}: {left_out:?} of {optional:?}");
    }
    silent(&messages)
}

#[test]
fn every_call_of_opening_and_compiling_can_fail() -> Result<()> {
    let (options, faults, messages) = faulty(false);
    if open("failing calls", &options)?.is_none() {
        return Ok(());
    }
    let calls = faults.calls();
    // All calls up to the first backend, then some of the self-test's, which are those of any job.
    for after in (0..calls.min(24)).chain((24..calls).step_by(7)) {
        faults.arm(Fault { after, call: None, result: vk::Result::ERROR_OUT_OF_HOST_MEMORY });
        let opened = Gpu::open(&options);
        ensure!(faults.disarm(), "there is no call {after}");
        ensure!(opened.is_err() || after > 24, "call {after} of {calls} failed unnoticed");
    }
    let model = golden::model("forward/jit", DType::F32)?;
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
