//! What a whole image costs beside the evaluations that it is made of: `image MODEL.gguf [--threads N] [--steps N]`.
//!
//! Draws one image of class 207 by the model's preset. After each of its evaluations a second engine runs as many
//! evaluations of one image as that one had branches, so that both see the machine in the same state.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use denoir::{Condition, Model, Options, Pipeline, Request, Rng, Settings};

const LABELS: [u32; 1] = [207];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let threads = value("--threads").map_or(Ok(2), |n| n.parse())?;
    let model = Arc::new(Model::open(arguments.first().context("which model?")?)?);
    let preset = *model.preset();
    let settings = Settings { steps: value("--steps").map_or(Ok(preset.steps), |n| n.parse())?, ..preset };
    let options = Options { threads: Some(threads), ..Default::default() };
    let mut engine = Pipeline::new(Arc::clone(&model), &options)?;
    let mut single = Pipeline::new(Arc::clone(&model), &options)?;
    let request = Request { condition: Condition::Labels(&LABELS), seed: 42, rng: Rng::Philox, settings };
    let x: Vec<f32> = (0..model.network().pixels()).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut x_hat = vec![0.0; x.len()];
    let (mut count, mut beside) = (0, Duration::ZERO);
    let mut failure = None;
    let start = Instant::now();
    let mut prepared = Duration::ZERO;
    single.with_denoiser(|single| {
        let mut single = single.prepare(0.3, Condition::Labels(&LABELS))?;
        single.predict(&x, &mut x_hat)?;
        prepared = start.elapsed();
        engine.generate(&request, &mut |progress| {
            let branches = 1 + usize::from(settings.evaluation(progress.evaluation - 1).guidance.is_some());
            let start = Instant::now();
            for _ in 0..branches {
                if let Err(error) = single.predict(&x, &mut x_hat) {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            count += branches;
            beside += start.elapsed();
            ControlFlow::Continue(())
        })?;
        Ok(())
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let image = start.elapsed() - prepared - beside;
    println!(
        "image of {} steps {:.2} s, its {count} evaluations one by one {:.2} s ({:.1} ms each): {:.3} times",
        settings.steps,
        image.as_secs_f64(),
        beside.as_secs_f64(),
        beside.as_secs_f64() * 1e3 / count as f64,
        image.as_secs_f64() / beside.as_secs_f64(),
    );
    Ok(())
}
