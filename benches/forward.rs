//! Times one evaluation of a network:
//! `forward MODEL.gguf [--threads N] [--batch N] [--isa NAME] [--runs N] [--out X_HAT.f32]`.
//! `forward convert CHECKPOINT OUT.gguf TYPE` makes the model.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use denoir::{Condition, Isa, Model, Options, Pipeline};
use denoir_benches::{cpu_time, peak_rss_bytes};
use denoir_core::DType;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().context("which model?")?;
    let rest: Vec<String> = arguments.collect();
    if first == "convert" { convert(&rest) } else { time(&first, &rest) }
}

fn convert(arguments: &[String]) -> anyhow::Result<()> {
    let [from, to, dtype] = arguments else { bail!("convert CHECKPOINT OUT.gguf TYPE") };
    let types = [DType::F32, DType::F16, DType::BF16, DType::I8];
    let dtype = types.into_iter().find(|t| t.name() == dtype).context("no such type")?;
    let options = denoir_convert::Options { dtype: Some(dtype), ..Default::default() };
    denoir_convert::convert(&PathBuf::from(from), &PathBuf::from(to), &options, &mut |_| {})?;
    Ok(())
}

fn time(model: &str, arguments: &[String]) -> anyhow::Result<()> {
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let number = |name, default| value(name).map_or(Ok(default), |n| n.parse::<usize>());
    let (threads, images, runs) = (number("--threads", 2)?, number("--batch", 1)?, number("--runs", 7)?);
    let isa = value("--isa").map(|name| Isa::from_name(name).context("no such instruction set")).transpose()?;
    let start = Instant::now();
    let model = Arc::new(Model::open(model)?);
    let network = model.network();
    let options = Options { threads: Some(threads), isa, batch: Some(images), ..Default::default() };
    let mut pipeline = Pipeline::new(Arc::clone(&model), &options)?;
    let opened = start.elapsed();
    let isa = pipeline.isa();
    let x: Vec<f32> = (0..images * network.pixels()).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut x_hat = vec![0.0; x.len()];
    let (mut times, mut cpu_times) = (Vec::new(), Vec::new());
    pipeline.with_denoiser(|denoiser| {
        let mut denoiser = denoiser.prepare(0.3, Condition::Labels(&vec![7; images]))?;
        for _ in 0..=runs {
            let (start, cpu) = (Instant::now(), cpu_time());
            denoiser.predict(&x, &mut x_hat)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            cpu_times.push((cpu_time() - cpu).as_secs_f64() * 1e3);
        }
        Ok(())
    })?;
    if let Some(path) = value("--out") {
        let bytes: Vec<u8> = x_hat.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path, bytes)?;
    }
    let first = times.remove(0);
    let cpu = cpu_times.into_iter().fold(f64::INFINITY, f64::min);
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let gflop = network.flop() as f64 * images as f64 / 1e9;
    println!(
        "{} {} threads {threads} batch {images}: best {best:.1} ms, median {median:.1} ms, {:.0} GFLOP/s, caller's CPU time {cpu:.1} ms; first {first:.1} \
         ms, opened in {:.0} ms, peak {} MB",
        network.weight_type(),
        isa.map_or("a device", Isa::name),
        gflop / best * 1e3,
        opened.as_secs_f64() * 1e3,
        peak_rss_bytes() / 1_000_000,
    );
    Ok(())
}
