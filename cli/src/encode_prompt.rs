//! `denoir encode`: writes prompt embeddings to a file, for devices that have no room for the text encoder.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::args::{EngineArgs, LoadArgs, extension};
use crate::error::Error;
use crate::prompt::{self, OpenEncoder};
use crate::reporter::{Reporter, Verbosity};
use crate::{interrupt, output, text};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  denoir encode -p \"a red cube\" --text-encoder qwen3-1.7b.gguf -o cube.safetensors
  denoir generate -m pixelgen-xxl.gguf --prompt-embeds cube.safetensors

The text is encoded by the processor.")]
pub(crate) struct Args {
    /// Prompt: what to draw, in words
    #[arg(short, long)]
    prompt: String,
    /// Negative prompt: what not to draw, in words
    #[arg(short, long, default_value = "")]
    negative_prompt: String,
    /// Text encoder: a qwen3 GGUF file, or a folder of config.json, *.safetensors and tokenizer.json
    #[arg(long, value_name = "FILE|FOLDER")]
    text_encoder: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "F.safetensors")]
    output: PathBuf,
    /// Tokens per prompt, as many as the image model expects
    #[arg(long, value_name = "N", default_value_t = 128, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=4096))]
    length: u16,
    /// Width of an embedding [default: the encoder's]
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=16384))]
    width: Option<u16>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Print only errors
    #[arg(short, long)]
    quiet: bool,
}

/// The files that a text encoder is read from.
fn files(encoder: &Path) -> Result<Vec<output::Named>, Error> {
    if !encoder.is_dir() {
        return Ok(vec![("--text-encoder", encoder.to_owned())]);
    }
    let entry = |entry: std::io::Result<DirEntry>| Ok(("--text-encoder", entry?.path()));
    let files = encoder.read_dir().and_then(|entries| entries.map(entry).collect());
    files.map_err(Error::reading(encoder))
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if extension(&args.output) != "safetensors" {
        let message = format!("cannot write embeddings to {}: use a .safetensors file", args.output.display());
        return Err(Error::Usage(message));
    }
    interrupt::catch();
    output::distinct(files(&args.text_encoder)?, vec![("-o", args.output.clone())])?;
    let progress = Reporter::new(Verbosity::new(args.quiet, false));
    let open = OpenEncoder::open(&args.text_encoder, args.load.loading(), &mut |line| progress.note(line))?;
    let width = args.width.map_or(open.encoder().model().config.hidden, usize::from);
    let size = (usize::from(args.length), width);
    let start = Instant::now();
    let options = args.engine.options(1);
    let embeds = open.encoder().encode_prompt(&args.prompt, &args.negative_prompt, size, &options)?;
    prompt::write(&args.output, &embeds, size)?;
    progress.finish();
    let took = text::seconds(start.elapsed().as_secs_f64());
    progress.note(&format!("{}: 2 prompts of {} × {} in {took}", args.output.display(), size.0, size.1));
    Ok(())
}
