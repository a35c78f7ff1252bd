//! The options of `denoir generate`, and the job they describe.

use std::path::{Path, PathBuf};

use denoir::core::sampler::Method;
use denoir::{Model, Rng, Settings};

use super::describe::{ImageJob, Job};
use super::numbered::numbered;
use crate::args::{EngineArgs, LoadArgs, extension, parse_rng};
use crate::error::Error;
use crate::prompt::Source;
use crate::{class, demo, model, output};

/// Maximum number of images per command.
const MAX_IMAGES: u32 = 10_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  denoir generate
  denoir generate --class 3 --seed 7 -o picture.png
  denoir generate -i 24 --grid -o sheet.png
  denoir generate --class cat-face --class dog-face -i 12 --grid -o pets.png
  denoir generate -m pixelgen-xl.gguf --class 207 --steps 25 --cfg-scale 3 --preview term
  denoir generate --trajectory denoising.gif
  denoir generate -m pixelgen-xxl.gguf --text-encoder Qwen3-1.7B-Q8_0.gguf -p 'a red cube on a blue sphere'

Settings that are not given are the model's own: `denoir inspect` shows them.
A seed gives one image: the same bytes for any number of threads on one backend and instruction set.")]
pub(crate) struct Args {
    /// Model file [default: the demo model built into the program]
    #[arg(short, long, value_name = "MODEL.gguf")]
    pub(super) model: Option<PathBuf>,
    /// File to write: .png, .ppm, or .npy (the f32 NCHW sample before conversion to 8 bits, all images in one file);
    /// `-` writes a PNG to standard output
    #[arg(short, long, value_name = "OUT", default_value = "out.png")]
    pub(super) output: PathBuf,
    /// Class to draw, by number or name; if given several times, the images take turns [default: 0; for the demo model,
    /// a selection]
    #[arg(long, value_name = "N|NAME")]
    pub(super) class: Vec<String>,
    /// Prompt: what to draw, in words (text-to-image models)
    #[arg(short, long)]
    prompt: Option<String>,
    /// Negative prompt: what not to draw, in words (text-to-image models)
    #[arg(short, long)]
    negative_prompt: Option<String>,
    /// Text encoder: a qwen3 GGUF file, or a folder of config.json, *.safetensors and tokenizer.json [default:
    /// text-encoder.gguf next to the model] (text-to-image models)
    #[arg(long, value_name = "FILE|FOLDER")]
    text_encoder: Option<PathBuf>,
    /// File of prompt embeddings to use instead of a prompt, with `prompt_embeds` and `negative_prompt_embeds`
    /// (text-to-image models)
    #[arg(long, value_name = "F.safetensors")]
    prompt_embeds: Option<PathBuf>,
    /// Noise seed of the first image; each further image adds one
    #[arg(long, value_name = "S", default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// Number of images, written to OUT-1.png, OUT-2.png, ... [default: one per --class]
    #[arg(short, long, value_name = "COUNT", allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_IMAGES)))]
    images: Option<u32>,
    /// Put all images on one contact sheet
    #[arg(long)]
    pub(super) grid: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Write the predicted clean image to this file (.png, .ppm) at every step; `term` draws it in the terminal
    #[arg(long, value_name = "PATH|term", help_heading = "Output")]
    pub(super) preview: Option<PathBuf>,
    /// Write an animation (.gif, or .png for an animated PNG) of the predicted clean image over the steps
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) trajectory: Option<PathBuf>,
    /// Write no settings into PNG files
    #[arg(long, help_heading = "Output")]
    pub(super) no_metadata: bool,
    /// Print one JSON object that describes the images
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Print only errors
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(super) quiet: bool,
    /// Print more details
    #[arg(short, long, help_heading = "Output")]
    pub(super) verbose: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingArgs {
    /// Solver steps
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    steps: Option<u32>,
    /// Classifier-free guidance scale; 1 disables guidance
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    cfg_scale: Option<f64>,
    /// Apply guidance between these times, from 0 (noise) to 1 (image)
    #[arg(long, value_name = "LO,HI", value_parser = parse_interval, allow_hyphen_values = true)]
    guidance_interval: Option<(f64, f64)>,
    /// Time shift s in t / (t + (1 - t) s)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    flow_shift: Option<f64>,
    /// Factor on the starting noise
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    noise_scale: Option<f64>,
    /// Solver: euler, heun, heun-reuse, heun-jit or adams
    #[arg(long, value_name = "M", value_parser = parse_method)]
    sampling_method: Option<Method>,
    /// Order of adams, 1 to 4
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    order: Option<u32>,
    /// Noise generator: `torch` (bit-identical to PyTorch) or `philox`
    #[arg(long, value_name = "RNG", default_value = "torch", value_parser = parse_rng)]
    rng: Rng,
}

fn parse_method(name: &str) -> Result<Method, String> {
    let names = Method::ALL.map(Method::name).join(", ");
    Method::from_name(name).ok_or_else(|| format!("use one of {names}"))
}

fn parse_interval(text: &str) -> Result<(f64, f64), String> {
    let numbers = text.split_once(',').and_then(|(lo, hi)| Some((lo.trim().parse().ok()?, hi.trim().parse().ok()?)));
    numbers.ok_or_else(|| "use two numbers, such as 0.1,0.9".into())
}

/// Where the images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A PNG on standard output.
    Stdout,
    Png(PathBuf),
    Ppm(PathBuf),
    Npy(PathBuf),
}

/// Determines where the images go. Rejects options that contradict each other, before any file is opened.
pub(super) fn target(args: &Args) -> Result<Target, Error> {
    let path = args.output.clone();
    let target = match extension(&path).as_str() {
        _ if path == Path::new("-") => Target::Stdout,
        "png" => Target::Png(path),
        "ppm" => Target::Ppm(path),
        "npy" => Target::Npy(path),
        _ => return Err(Error::Usage(format!("cannot write {}: use .png, .ppm or .npy", path.display()))),
    };
    let refuse = |what: &str| Err(Error::usage(what));
    if target == Target::Stdout && args.json {
        return refuse("--json and the picture cannot both go to standard output: give -o a file");
    }
    if target == Target::Stdout && count(args) > 1 && !args.grid {
        return refuse("standard output takes one picture: add --grid, or give -o a file");
    }
    if args.grid && matches!(target, Target::Npy(_)) {
        return refuse("--grid makes a picture: use .png or .ppm; a .npy file holds all images anyway");
    }
    if args.sampling.order.is_some() && args.sampling.sampling_method.is_some_and(|m| m != Method::Adams) {
        return refuse("--order belongs to --sampling-method adams");
    }
    let read = [("-m", &args.model), ("--text-encoder", &args.text_encoder), ("--prompt-embeds", &args.prompt_embeds)];
    let read = read.into_iter().filter_map(|(option, path)| Some((option, path.clone()?))).collect();
    output::distinct(read, written(args, &target))?;
    Ok(target)
}

/// The files that a run writes.
fn written(args: &Args, target: &Target) -> Vec<output::Named> {
    let mut files = Vec::new();
    let mut add = |option, path: &Path, count| {
        files.extend((0..count).map(|number| (option, numbered(path, number, count))));
    };
    let each = if args.grid { 1 } else { count(args) };
    match target {
        Target::Stdout => {}
        Target::Npy(path) => add("-o", path, 1),
        Target::Png(path) | Target::Ppm(path) => add("-o", path, each),
    }
    if let Some(path) = &args.trajectory {
        add("--trajectory", path, each);
    }
    if let Some(path) = args.preview.as_deref().filter(|path| *path != Path::new("term")) {
        add("--preview", path, 1);
    }
    files
}

/// Images to draw.
fn count(args: &Args) -> usize {
    args.images.map_or(args.class.len().max(1), |n| n as usize)
}

/// Combines the options with the model's own settings into the job.
pub(super) fn job(args: &Args, model: &Model) -> Result<Job, Error> {
    let network = model.network();
    let source = match network.text_size() {
        Some(_) => Some(source(args)?),
        None => refuse_text(args).map(|()| None)?,
    };
    if !matches!(network.channels(), 1 | 3) && extension(&args.output) != "npy" {
        let message =
            format!("this model's images have {} channels: they can be written as .npy only", network.channels());
        return Err(Error::Usage(message));
    }
    let classes = if source.is_some() { vec![] } else { classes(args, model)? };
    let image = |i: usize| {
        let seed = args.seed.wrapping_add(i as u64);
        let class = classes.get(i % classes.len().max(1)).copied();
        let name = class.and_then(|class| model.class_names().get(class as usize).cloned());
        ImageJob { class, name, seed }
    };
    Ok(Job {
        images: (0..count(args)).map(image).collect(),
        source,
        settings: settings(&args.sampling, model.preset())?,
        rng: args.sampling.rng,
        side: network.input_size(),
        channels: network.channels(),
        model_name: model::display_name(model, args.model.as_deref()),
        model_hash: model::source_hash(model),
    })
}

/// The source of a text-to-image model's text.
fn source(args: &Args) -> Result<Source, Error> {
    if !args.class.is_empty() {
        return Err(Error::usage("--class is for class-conditional models; this one draws from a prompt: use -p"));
    }
    match (&args.prompt, &args.prompt_embeds) {
        (Some(_), Some(_)) => Err(Error::usage("-p and --prompt-embeds are two texts for one picture: give one")),
        (None, Some(path)) if args.negative_prompt.is_none() => Ok(Source::Embeds(path.clone())),
        (None, Some(_)) => Err(Error::usage("the file of --prompt-embeds has the negative prompt: leave out -n")),
        (None, None) => Err(Error::usage("this model draws from a prompt: give -p TEXT, or --prompt-embeds FILE")),
        (Some(prompt), None) => Ok(Source::Words {
            prompt: prompt.clone(),
            negative: args.negative_prompt.clone().unwrap_or_default(),
            encoder: text_encoder(args)?,
        }),
    }
}

/// The given text encoder, or the one next to the model.
fn text_encoder(args: &Args) -> Result<PathBuf, Error> {
    if let Some(path) = &args.text_encoder {
        return Ok(path.clone());
    }
    let beside = args.model.as_deref().unwrap_or(Path::new("")).with_file_name("text-encoder.gguf");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Error::Usage(format!(
        "a prompt needs a text encoder, and {} is not there: give --text-encoder, a qwen3 GGUF file or a Qwen3 folder, \
         or --prompt-embeds, made by `denoir encode`",
        beside.display()
    )))
}

/// Options without meaning for a class-conditional model.
fn refuse_text(args: &Args) -> Result<(), Error> {
    let text = [
        ("--prompt", args.prompt.is_some()),
        ("--negative-prompt", args.negative_prompt.is_some()),
        ("--text-encoder", args.text_encoder.is_some()),
        ("--prompt-embeds", args.prompt_embeds.is_some()),
    ];
    match text.into_iter().find(|&(_, given)| given) {
        Some((flag, _)) => {
            Err(Error::Usage(format!("{flag} is for text-to-image models; this one is class-conditional: use --class")))
        }
        None => Ok(()),
    }
}

fn classes(args: &Args, model: &Model) -> Result<Vec<u32>, Error> {
    if !args.class.is_empty() {
        return args.class.iter().map(|wanted| class::find(model, wanted)).collect();
    }
    let mut classes = Vec::new();
    if args.model.is_none() {
        classes.extend(demo::SHOWCASE.iter().filter_map(|name| model.class(name)));
    }
    if classes.is_empty() {
        classes.push(0);
    }
    Ok(classes)
}

fn settings(args: &SamplingArgs, preset: &Settings) -> Result<Settings, Error> {
    let method = args.sampling_method.unwrap_or(preset.method);
    if args.order.is_some() && method != Method::Adams {
        return Err(Error::usage("--order belongs to --sampling-method adams"));
    }
    // heun-jit has no shift, so a preset's own one does not follow the user there.
    let preset_shift = if method == Method::HeunJit { 1.0 } else { preset.flow_shift };
    let settings = Settings {
        method,
        steps: args.steps.unwrap_or(preset.steps),
        cfg_scale: args.cfg_scale.unwrap_or(preset.cfg_scale),
        guidance_interval: args.guidance_interval.unwrap_or(preset.guidance_interval),
        flow_shift: args.flow_shift.unwrap_or(preset_shift),
        noise_scale: args.noise_scale.unwrap_or(preset.noise_scale),
        order: args.order.unwrap_or(preset.order),
    };
    settings.check().map_err(|e| Error::Usage(format!("--{}: {e}", e.setting().replace('_', "-"))))?;
    Ok(settings)
}
