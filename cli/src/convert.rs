//! `denoir convert`: converts an upstream checkpoint to a model file.

use std::path::{Path, PathBuf};

use denoir::core::DType;
use denoir_convert::{Options, convert, locate};

use crate::args::parse_type;
use crate::error::Error;
use crate::reporter::{Reporter, Verbosity};
use crate::{interrupt, text};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  denoir convert PixelGen_XL.ckpt -o pixelgen-xl.gguf --type int8
  denoir convert jit-b16.pth -o jit-b16.gguf --weights model_ema2 --labels imagenet.txt

Nothing of the checkpoint is executed, and memory does not grow with its size.")]
pub(crate) struct Args {
    /// Checkpoint: PixelGen's .ckpt, JiT's .pth, or .safetensors (a file, an index, or the folder of an index)
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Model file to write
    #[arg(short, long, value_name = "OUT.gguf")]
    output: PathBuf,
    /// Type of the weights: f32, f16, bf16 or int8 [default: bf16; a text encoder keeps its own type]
    #[arg(long = "type", value_name = "T", value_parser = parse_type)]
    dtype: Option<DType>,
    /// Which weights: `ema`, `raw`, or `model_ema1`, `model_ema2`, `model` [default: the first average]
    #[arg(long, value_name = "SET")]
    weights: Option<String>,
    /// Configuration that the checkpoint lacks: upstream's YAML, or JSON with the same names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File of class names, one per line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print only errors
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if crate::args::extension(&args.output) != "gguf" {
        return Err(Error::Usage(format!("cannot write a model to {}: use a .gguf file", args.output.display())));
    }
    let input = locate(&args.input)?;
    let options = Options {
        weights: args.weights.clone(),
        dtype: args.dtype,
        config: args.config.clone(),
        labels: args.labels.clone(),
        cancel: Some(interrupt::flag()),
    };
    interrupt::catch();
    let mut progress = Reporter::new(Verbosity::new(args.quiet, false));
    let summary = convert(&input, &args.output, &options, &mut |p| show(&mut progress, &p))?;
    progress.finish();
    progress.note(&format!(
        "{}: {}, {} parameters in {}, {} ({})",
        args.output.display(),
        summary.name,
        text::thousands(summary.parameters),
        summary.dtype,
        text::bytes(summary.bytes),
        origin(&input, summary.weights),
    ));
    Ok(())
}

fn show(progress: &mut Reporter, p: &denoir_convert::Progress<'_>) {
    let part = p.bytes_done as f64 / p.bytes_total.max(1) as f64;
    progress.update(part, &|| format!("{} of {}", text::bytes(p.bytes_done), text::bytes(p.bytes_total)));
}

/// `PixelGen_XL.ckpt, ema`.
fn origin(input: &Path, weights: &str) -> String {
    let file = input.file_name().unwrap_or_default().to_string_lossy();
    if weights.is_empty() { file.into_owned() } else { format!("{file}, {weights}") }
}
