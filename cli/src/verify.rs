//! `denoir verify`: compares this build with PyTorch's results, tensor by tensor.

mod outcome;

use std::path::PathBuf;

use denoir::core::DType;
use denoir_golden::{Fixture, Models, Verdict, verify};
use serde_json::json;

use crate::args::{EngineArgs, extension, parse_type};
use crate::error::Error;
use crate::{interrupt, stdout};
use outcome::Outcome;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A fixture names its checkpoint; it is converted on the way. Of each tensor the error is printed beside \
    its limit,\nand the first that departs is named. Exit code 1 if any is over its limit, or if nothing could be run.\n\n\
    Examples:\n  denoir verify fixtures/forward\n  denoir verify fixtures/sample/pg-ctx.heun.safetensors --isa scalar\n  \
    denoir verify fixtures/forward --type int8"
)]
pub(crate) struct Args {
    /// Fixtures (.safetensors), or folders of them
    #[arg(value_name = "FIXTURE", required = true)]
    fixtures: Vec<PathBuf>,
    /// Type of the weights: f32, f16, bf16 or int8
    #[arg(long = "type", value_name = "T", default_value = "f32", value_parser = parse_type)]
    dtype: DType,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print only failures and the summary
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    interrupt::catch();
    let mut models = Models::new(args.dtype, args.engine.options(1), interrupt::flag())?;
    let mut outcomes = Vec::new();
    for path in files(&args.fixtures)? {
        let fixture = Fixture::open(&path)?;
        let kind = fixture.kind().to_owned();
        let outcome = Outcome { file: path, kind, verdict: verify(fixture, &mut models)? };
        let hidden = args.json || (args.quiet && outcome.verdict.passed());
        if !hidden {
            stdout::text(&outcome.text())?;
        }
        outcomes.push(outcome);
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
    }
    report(args, &outcomes)
}

/// Lists the named files, and the files in the named folders, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in path.read_dir().map_err(Error::reading(path))? {
            inside.push(entry.map_err(Error::reading(path))?.path());
        }
        inside.retain(|file: &PathBuf| extension(file) == "safetensors");
        inside.sort();
        if inside.is_empty() {
            return Err(Error::Usage(format!("{}: no .safetensors file is in this folder", path.display())));
        }
        files.extend(inside);
    }
    Ok(files)
}

fn report(args: &Args, outcomes: &[Outcome]) -> Result<(), Error> {
    let count = |of: fn(&Verdict) -> bool| outcomes.iter().filter(|o| of(&o.verdict)).count();
    let (passed, skipped) = (count(Verdict::passed), count(Verdict::skipped));
    let failed = outcomes.len() - passed - skipped;
    if args.json {
        let files: Vec<_> = outcomes.iter().map(Outcome::json).collect();
        let of = json!({ "type": args.dtype.name(), "passed": passed, "failed": failed, "skipped": skipped });
        stdout::json(&json!({ "files": files, "summary": of }))?;
    } else {
        stdout::text(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"))?;
    }
    let first = outcomes.iter().find(|o| !o.verdict.passed() && !o.verdict.skipped());
    match first {
        Some(outcome) => Err(Error::Verify(outcome.failure())),
        None if passed == 0 => Err(Error::Verify("nothing was verified".into())),
        None => Ok(()),
    }
}
