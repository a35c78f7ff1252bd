//! `denoir bench`: times one evaluation of a network.

mod memory;
mod timing;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use denoir::core::DType;
use denoir::{AlignedBytes, Isa, KernelTime, Loading, Model, Pipeline};
use denoir_convert::random::{RandomModel, Shape};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::args::{EngineArgs, LoadArgs, parse_type};
use crate::error::Error;
use crate::output::{Output, Stoppable};
use crate::reporter::{Reporter, Verbosity};
use crate::{interrupt, model, stdout, text};
use timing::Times;

/// Seed of the random weights.
const SEED: u64 = 1;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "One evaluation is one pass of the network over --batch images, with its share of the modulation \
    vectors\n(adaLN), which are made for several steps at once as in a real run.\n\n\
    Examples:\n  denoir bench\n  denoir bench --shape pixelgen-xl --type int8 --json"
)]
pub(crate) struct Args {
    /// Model file [default: the demo model built into the program]
    #[arg(short, long, value_name = "MODEL.gguf", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Random weights in a published size: jit-b16, jit-l16, jit-h16, pixelgen-l, pixelgen-xl or pixelgen-xxl; needs no
    /// file
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape)]
    shape: Option<Shape>,
    /// Type of the random weights: f32, f16, bf16 or int8 [default: bf16]
    #[arg(long = "type", value_name = "T", value_parser = parse_type, requires = "shape")]
    dtype: Option<DType>,
    /// Write the random weights to a model file, for `generate`, and measure nothing
    #[arg(long, value_name = "FILE.gguf", requires = "shape")]
    save: Option<PathBuf>,
    /// Images per pass
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=denoir::core::plan::MAX_BATCH as i64))]
    batch: u16,
    /// Number of measurements after a warm-up, each of several evaluations
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print only errors and results
    #[arg(short, long)]
    quiet: bool,
}

fn parse_shape(name: &str) -> Result<Shape, String> {
    let names = Shape::ALL.map(Shape::name).join(", ");
    Shape::from_name(name).ok_or_else(|| format!("use one of {names}"))
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    interrupt::catch();
    let start = Instant::now();
    let model = match args.shape {
        Some(shape) => {
            let random = RandomModel::new(shape, args.dtype.unwrap_or(DType::BF16))?;
            if let Some(path) = &args.save {
                return save(&random, path);
            }
            in_memory(&random)?
        }
        None => model::open(args.model.as_deref(), args.load.loading())?,
    };
    let batch = usize::from(args.batch);
    let mut pipeline = Pipeline::new(Arc::clone(&model), &args.engine.options(batch))?;
    let load = start.elapsed();
    let mut progress = Reporter::new(Verbosity::new(args.quiet, false));
    let times = timing::measure(&mut pipeline, batch, args.runs.into(), &mut progress)?;
    let kernels = timing::kernels(&mut pipeline, batch)?;
    progress.finish();
    let mut report = report(args, &pipeline, &times);
    if !kernels.is_empty() {
        report["kernels"] = shares(&kernels);
    }
    report["load_ms"] = json!(round(load.as_secs_f64() * 1e3));
    if args.json { stdout::json(&report) } else { stdout::text(&as_text(&report)) }
}

fn save(random: &RandomModel, path: &Path) -> Result<(), Error> {
    let mut output = Output::create(path)?;
    let written = random.write(SEED, &mut output.file());
    interrupt::check()?;
    written.map_err(Error::writing(path))?;
    output.commit()
}

/// A model with random weights.
fn in_memory(random: &RandomModel) -> Result<Arc<Model>, Error> {
    if let Some(model) = mapped(random) {
        return Ok(Arc::new(model));
    }
    interrupt::check()?;
    let len = usize::try_from(random.len_bytes()).unwrap_or(usize::MAX);
    let mut bytes = AlignedBytes::zeroed(len)?;
    let full = |_| Error::from(denoir::Error::Memory(len));
    random.write(SEED, &mut Cursor::new(bytes.as_mut_slice())).map_err(full)?;
    Ok(Arc::new(Model::from_bytes(bytes)?))
}

/// Writes the model to a temporary file, so that its pages are released once the weights are packed, as in a real run.
/// The file has no name and vanishes with the program. `None` if the system has no such files, or the disk is full.
fn mapped(random: &RandomModel) -> Option<Model> {
    if !cfg!(unix) {
        return None;
    }
    let mut file = NamedTempFile::new().ok()?;
    random.write(SEED, &mut Stoppable(&mut file)).ok()?;
    Model::load(file.path(), Loading::Map).ok()
}

fn report(args: &Args, pipeline: &Pipeline, times: &Times) -> Value {
    let (model, device) = (pipeline.model(), pipeline.device());
    let gflop = model.network().flop() as f64 * f64::from(args.batch) / 1e9;
    let weights = model.network().weight_type();
    let (gflops, peak) = (gflop * 1e3 / times.forward_ms(), pipeline.peak_gflops(weights));
    let place = args.model.as_ref().map(|path| path.to_string_lossy().into_owned());
    json!({
        "model": place.unwrap_or_else(|| args.shape.map_or("demo", Shape::name).to_owned()),
        "name": model.name(),
        "type": weights.name(),
        "batch": args.batch,
        "runs": args.runs,
        "forward_ms": round(times.forward_ms()),
        "predict_ms": round(times.predict_ms),
        "modulation_ms": round(times.modulation_ms),
        "best_predict_ms": round(times.best_predict_ms),
        "device_ms": times.device_ms.map(round),
        "gflop": round(gflop),
        "gflops": round(gflops),
        "peak_gflops": peak.map(round),
        "share_of_peak": peak.map(|peak| round(gflops / peak)),
        "backend": device.backend.name(),
        "device": device.name,
        "isa": pipeline.isa().map(Isa::name),
        "threads": pipeline.threads(),
        "model_bytes": model.bytes().len(),
        "activation_bytes": pipeline.arena_bytes(),
        "device_bytes": pipeline.device_bytes(),
        "peak_rss_bytes": memory::peak_rss_bytes(),
    })
}

/// Each kernel's share of an evaluation, by the device's own clock.
fn shares(kernels: &[KernelTime]) -> Value {
    let total: f64 = kernels.iter().map(|kernel| kernel.ms).sum();
    let share = |kernel: &KernelTime| {
        json!({
            "kernel": kernel.name,
            "runs": kernel.runs,
            "ms": round(kernel.ms),
            "share": round(kernel.ms / total.max(f64::MIN_POSITIVE)),
        })
    };
    kernels.iter().map(share).collect()
}

/// A line for each kernel of the report.
fn kernel_lines(report: &Value) -> String {
    let kernels = report["kernels"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |kernel: &Value| {
        format!(
            "kernel       {:5.1}% {:9.3} ms in {:4} runs of {}\n",
            kernel["share"].as_f64().unwrap_or(0.0) * 100.0,
            kernel["ms"].as_f64().unwrap_or(0.0),
            kernel["runs"].as_u64().unwrap_or(0),
            kernel["kernel"].as_str().unwrap_or_default(),
        )
    };
    kernels.iter().map(line).collect()
}

fn as_text(report: &Value) -> String {
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let word = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let bytes = |key: &str| report[key].as_u64().map_or_else(|| "unknown".into(), text::bytes);
    let peak = match (report["share_of_peak"].as_f64(), report["peak_gflops"].as_f64()) {
        (Some(share), Some(peak)) => format!(", {:.0} % of the measured peak of {peak:.0}", 100.0 * share),
        _ => String::new(),
    };
    let on_device = report["device_ms"].as_f64().map_or_else(String::new, |ms| format!(", {ms:.3} ms on the device"));
    let device = report["device_bytes"].as_u64();
    let device = device.map_or_else(String::new, |held| format!("{} on the device, ", text::bytes(held)));
    format!(
        "model        {} ({}), {}, {} of weights\n\
         engine       {}, {}, {} threads, batch {}\n\
         evaluation   {:.2} ms: {:.2} ms network (best {:.2}{on_device}), {:.2} ms share of modulation\n\
         rate         {:.1} GFLOP/s at {:.3} GFLOP an evaluation{peak}\n\
         memory       {} at the peak, {device}of it {} of activations\n{}",
        word("model"),
        word("name"),
        word("type"),
        bytes("model_bytes"),
        [word("backend"), word("isa")].join(" ").trim_end(),
        word("device"),
        number("threads"),
        number("batch"),
        number("forward_ms"),
        number("predict_ms"),
        number("best_predict_ms"),
        number("modulation_ms"),
        number("gflops"),
        number("gflop"),
        bytes("peak_rss_bytes"),
        bytes("activation_bytes"),
        kernel_lines(report),
    )
}

/// Rounds to a thousandth, below the clock's resolution.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
