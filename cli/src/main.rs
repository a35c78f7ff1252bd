//! The command line of denoir. Each command has its own file, with its options and its `run`.

mod args;
mod bench;
mod class;
mod convert;
mod demo;
mod devices;
mod embeddings;
mod encode;
mod encode_prompt;
mod error;
mod generate;
mod inspect;
mod interrupt;
mod model;
mod noise;
mod output;
mod picture;
mod prompt;
mod reporter;
mod stdout;
mod text;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Draws images with pixel-space diffusion transformers (JiT, PixelGen).
#[derive(Debug, Parser)]
#[command(name = "denoir", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Start with `denoir generate`: it draws with the model built into this program.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draw images
    Generate(Box<generate::Args>),
    /// Convert an upstream checkpoint to a model file
    Convert(convert::Args),
    /// Encode prompts with a text encoder
    Encode(encode_prompt::Args),
    /// Describe a model file
    Inspect(inspect::Args),
    /// List the devices that can run a model
    Devices(devices::Args),
    /// Compare this build with PyTorch's results
    Verify(verify::Args),
    /// Time one evaluation of a network
    Bench(bench::Args),
    /// Write the starting noise of a seed
    Noise(noise::Args),
}

/// Where memory is short, the program ends with an error.
#[global_allocator]
static ALLOCATOR: denoir::Reserve = denoir::Reserve::for_program();

/// Takes the stack that drawing needs while there is memory for it: a stack that cannot grow later ends the program.
#[inline(never)]
fn take_stack() {
    let stack = [0u8; 512 << 10];
    std::hint::black_box(&stack);
}

fn main() -> ExitCode {
    take_stack();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(args::report(&e)),
    };
    let result = match cli.command {
        Command::Generate(args) => generate::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Encode(args) => encode_prompt::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Noise(args) => noise::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            text::error_line(&e.to_string());
            ExitCode::from(e.exit_code())
        }
    }
}
