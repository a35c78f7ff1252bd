//! denoir's side of the comparison with other engines (`benches/peers`): one model in a process of its own.
//! `peer MODEL.gguf THREADS ISA X.f32 X_HAT.f32 LABEL...` answers every line on standard input: `run` with the seconds
//! of one evaluation, `modulate` with those of an evaluation that makes its adaLN vectors too (denoir makes them for
//! many steps at once), `save` with the peak resident bytes after writing the last result. ISA is the name of an
//! instruction set, or `own` for what denoir chooses here.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use denoir::{Condition, Isa, Model, Options, Pipeline};
use denoir_benches::peak_rss_bytes;

/// Time of the evaluation, from noise (0) to image (1).
const T: f64 = 0.3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, isa, x, x_hat_path, labels @ ..] = arguments.as_slice() else {
        bail!("peer MODEL.gguf THREADS ISA X.f32 X_HAT.f32 LABEL...")
    };
    let labels = labels.iter().map(|label| label.parse()).collect::<Result<Vec<u32>, _>>()?;
    let x_hat_path = PathBuf::from(x_hat_path);
    let x = std::fs::read(x).context("no input")?;
    let x: Vec<f32> = x.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let mut x_hat = vec![0.0; x.len()];
    let start = Instant::now();
    let model = Arc::new(Model::open(model)?);
    let isa = (isa != "own").then(|| Isa::from_name(isa).context("no such instruction set")).transpose()?;
    let options = Options { threads: Some(threads.parse()?), isa, batch: Some(labels.len()), ..Default::default() };
    let mut pipeline = Pipeline::new(model, &options)?;
    let condition = Condition::Labels(&labels);
    pipeline.with_denoiser(|denoiser| {
        let mut out = std::io::stdout();
        let mut prepared = denoiser.prepare(T, condition)?;
        prepared.predict(&x, &mut x_hat)?;
        let _ = writeln!(out, "ready {}", start.elapsed().as_secs_f64());
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let start = Instant::now();
            let answer = match line.trim() {
                "run" => {
                    prepared.predict(&x, &mut x_hat)?;
                    start.elapsed().as_secs_f64()
                }
                "modulate" => {
                    drop(prepared);
                    prepared = denoiser.prepare(T, condition)?;
                    prepared.predict(&x, &mut x_hat)?;
                    start.elapsed().as_secs_f64()
                }
                _ => {
                    // The reader finds no file where it cannot be written.
                    let bytes: Vec<u8> = x_hat.iter().flat_map(|x| x.to_le_bytes()).collect();
                    let peak = peak_rss_bytes();
                    let _ = std::fs::write(&x_hat_path, bytes);
                    peak as f64
                }
            };
            let _ = writeln!(out, "{answer}");
        }
        Ok(())
    })?;
    Ok(())
}
