//! One seed gives one image, jobs can be stopped, and impossible jobs are refused.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Result, bail};
use denoir::{AlignedBytes, AnyNetwork, Condition, Isa, Model, Options, Pipeline, Request, Settings};
use denoir_core::Precision;
use denoir_core::cpu::Cpu;
use denoir_core::jit::JitPlan;
use denoir_core::network::Network as _;
use denoir_core::{DType, Denoiser, RunError, Serial};
use denoir_tests::golden::model;
use denoir_tests::settings;

#[test]
fn one_seed_gives_one_image() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let model = model("forward/pg-ctx", dtype)?;
        for isa in Isa::available() {
            one_image(&model, isa)?;
        }
    }
    Ok(())
}

fn one_image(model: &Arc<Model>, isa: Isa) -> Result<()> {
    let request = Request { seed: 11, settings: settings(), ..Request::preset(model, Condition::Labels(&[3, 0, 5])) };
    let draw = |threads, batch, request: &Request<'_>| -> Result<_> {
        let options = Options { isa: Some(isa), threads: Some(threads), batch: Some(batch), ..Options::default() };
        let mut pipeline = Pipeline::new(Arc::clone(model), &options)?;
        Ok(pipeline.generate(request, &mut |_| ControlFlow::Continue(()))?)
    };
    let all = draw(1, 1, &request)?;
    for (threads, batch) in [(2, 1), (5, 1), (1, 2), (2, 3)] {
        assert!(all == draw(threads, batch, &request)?, "{} with {threads} threads, batch {batch}", isa.name());
    }
    let last = Request { condition: Condition::Labels(&[5]), seed: 13, ..request };
    assert!(all[2..] == draw(1, 1, &last)?, "{}: an image alone", isa.name());
    Ok(())
}

#[test]
fn a_job_can_be_stopped_and_the_pipeline_used_again() -> Result<()> {
    let model = model("forward/jit", DType::F32)?;
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let request = Request {
        settings: Settings { steps: 3, ..*model.preset() },
        ..Request::preset(&model, Condition::Labels(&[0]))
    };
    let mut seen = 0;
    let stopped = pipeline.generate(&request, &mut |p| {
        seen += 1;
        assert_eq!(p.x_hat()?.len(), model.network().pixels());
        if p.evaluation == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(denoir::Error::Run(RunError::Cancelled))));
    assert_eq!(seen, 2);
    assert_eq!(pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?.len(), 1);
    Ok(())
}

#[test]
fn impossible_jobs_are_refused() -> Result<()> {
    let model = model("forward/jit", DType::F32)?;
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let classes = model.network().classes() as u32;
    let ok = Request {
        settings: Settings { steps: 1, ..*model.preset() },
        ..Request::preset(&model, Condition::Labels(&[0]))
    };
    let mut error =
        |request: &Request<'_>| pipeline.generate(request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    let with = |settings| Request { settings, ..ok };
    assert!(error(&Request { condition: Condition::Labels(&[classes]), ..ok }).contains("does not exist"));
    assert!(error(&Request { condition: Condition::Labels(&[]), ..ok }).contains("0 images"));
    assert!(error(&with(Settings { steps: 0, ..ok.settings })).contains("steps"));
    assert!(error(&with(Settings { order: 5, ..ok.settings })).contains("order"));
    assert!(error(&with(Settings { cfg_scale: f64::NAN, ..ok.settings })).contains("guidance"));
    assert!(error(&with(Settings { noise_scale: 0.0, ..ok.settings })).contains("noise"));
    assert!(error(&with(Settings { guidance_interval: (0.9, 0.1), ..ok.settings })).contains("interval"));
    assert!(Pipeline::new(Arc::clone(&model), &Options { batch: Some(0), ..Options::default() }).is_err());
    assert!(Pipeline::new(Arc::clone(&model), &Options { batch: Some(33), ..Options::default() }).is_err());
    Ok(())
}

#[test]
fn a_look_at_the_prediction_changes_nothing() -> Result<()> {
    let model = model("forward/jit", DType::F32)?;
    let mut pipeline = Pipeline::new(Arc::clone(&model), &Options::default())?;
    let settings = Settings { steps: 3, ..*model.preset() };
    let request = Request { settings, ..Request::preset(&model, Condition::Labels(&[0])) };
    let unseen = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    let mut last = Vec::new();
    let seen = pipeline.generate(&request, &mut |p| {
        let first = p.x_hat()?.to_vec();
        assert!(first != last && first == p.x_hat()?, "evaluation {}", p.evaluation);
        last = first;
        ControlFlow::Continue(())
    })?;
    assert!(unseen == seen);
    Ok(())
}

#[test]
fn a_plan_for_another_backend_and_other_counts_are_refused() -> Result<()> {
    let model = model("forward/jit", DType::F32)?;
    let AnyNetwork::Jit(network) = model.network() else { bail!("another network") };
    // No processor wants f16 activations.
    let half = Precision { f16: DType::F16, ..Precision::WIDE };
    let (pixels, needed) = (network.pixels(), JitPlan::new(network, 2, Precision::WIDE)?.arena_bytes);
    for (precision, len) in [(Precision::WIDE, needed), (Precision::WIDE, needed - 64), (half, needed)] {
        let plan = JitPlan::new(network, 2, precision)?;
        let mut arena = AlignedBytes::zeroed(len)?;
        let cpu = Cpu::new(model.bytes(), arena.as_mut_slice(), &Serial, Isa::SCALAR)?;
        match Denoiser::new(&**network, plan, cpu) {
            Err(RunError::Arena { len: had, .. }) => assert_eq!((had, len), (len, needed - 64)),
            Err(error) => assert_eq!((error, precision), (RunError::Precision, half)),
            Ok(mut denoiser) => {
                assert_eq!((precision, len), (Precision::WIDE, needed));
                let (one, mut two) = (vec![0.0; pixels], vec![0.0; 2 * pixels]);
                let refused = denoiser.prepare(0.5, &[1, 2])?.predict(&one, &mut two);
                assert_eq!(refused, Err(RunError::Output { len: pixels, needed: 2 * pixels }));
            }
        }
    }
    Ok(())
}
