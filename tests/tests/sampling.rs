//! One seed gives one image, jobs can be stopped, and impossible jobs are refused.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use denoir::{Isa, Model, Options, Pipeline, Request, Settings};
use denoir_core::DType;
use denoir_tests::{model, settings};

#[test]
fn one_seed_gives_one_image() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let model = model("pg-ctx.ckpt", "pg-ctx.json", dtype)?;
        for isa in Isa::available() {
            one_image(&model, isa)?;
        }
    }
    Ok(())
}

fn one_image(model: &Arc<Model>, isa: Isa) -> Result<()> {
    let request = Request { labels: vec![3, 0, 5], seed: 11, settings: settings(), ..Request::preset(model) };
    let draw = |threads, batch, request: &Request| -> Result<_> {
        let options = Options { isa: Some(isa), threads: Some(threads), batch: Some(batch), ..Options::default() };
        let mut pipeline = Pipeline::new(Arc::clone(model), &options)?;
        Ok(pipeline.generate(request, &mut |_| ControlFlow::Continue(()))?)
    };
    let all = draw(1, 1, &request)?;
    for (threads, batch) in [(2, 1), (5, 1), (1, 2), (2, 3)] {
        assert!(all == draw(threads, batch, &request)?, "{} with {threads} threads, batch {batch}", isa.name());
    }
    let last = Request { labels: vec![5], seed: 13, ..request };
    assert!(all[2..] == draw(1, 1, &last)?, "{}: an image alone", isa.name());
    Ok(())
}

#[test]
fn a_job_can_be_stopped_and_the_pipeline_used_again() -> Result<()> {
    let model = model("jit.pth", "jit.json", DType::F32)?;
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let request = Request { settings: Settings { steps: 3, ..*model.preset() }, ..Request::preset(&model) };
    let mut seen = 0;
    let stopped = pipeline.generate(&request, &mut |p| {
        seen += 1;
        assert_eq!(p.x_hat.len(), model.network().pixels());
        if p.evaluation == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(denoir::Error::Run(denoir_core::RunError::Cancelled))));
    assert_eq!(seen, 2);
    assert_eq!(pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?.len(), 1);
    Ok(())
}

#[test]
fn impossible_jobs_are_refused() -> Result<()> {
    let model = model("jit.pth", "jit.json", DType::F32)?;
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let classes = model.network().classes() as u32;
    let ok = Request { settings: Settings { steps: 1, ..*model.preset() }, ..Request::preset(&model) };
    let mut error =
        |request: &Request| pipeline.generate(request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    let with = |settings| Request { settings, ..ok.clone() };
    assert!(error(&Request { labels: vec![classes], ..ok.clone() }).contains("does not exist"));
    assert!(error(&Request { labels: vec![], ..ok.clone() }).contains("0 images"));
    assert!(error(&with(Settings { steps: 0, ..ok.settings })).contains("steps"));
    assert!(error(&with(Settings { order: 5, ..ok.settings })).contains("order"));
    assert!(error(&with(Settings { cfg_scale: f64::NAN, ..ok.settings })).contains("guidance"));
    assert!(error(&with(Settings { noise_scale: 0.0, ..ok.settings })).contains("noise"));
    assert!(error(&with(Settings { guidance_interval: (0.9, 0.1), ..ok.settings })).contains("interval"));
    assert!(Pipeline::new(Arc::clone(&model), &Options { batch: Some(0), ..Options::default() }).is_err());
    assert!(Pipeline::new(Arc::clone(&model), &Options { batch: Some(33), ..Options::default() }).is_err());
    Ok(())
}
