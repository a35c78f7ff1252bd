//! Options that several commands share, and the report of wrong options.

use std::path::Path;

use clap::error::{Error as ClapError, ErrorKind};
use denoir::core::DType;
use denoir::{BackendKind, Isa, Loading, Options, Rng};

use crate::text;

/// Where and how a model runs.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Backend that runs the network
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub(crate) backend: Backend,
    /// Device of that backend; `denoir devices` lists them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) device: Option<usize>,
    /// Processor threads [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instruction set of the CPU backend: `scalar` gives the same bytes on every machine [default: the fastest]
    #[arg(long, value_name = "NAME", value_parser = parse_isa)]
    pub(crate) isa: Option<Isa>,
}

/// How model files come into memory.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct LoadArgs {
    /// Read model files instead of mapping them into memory: another program may then change or cut them meanwhile
    #[arg(long)]
    no_mmap: bool,
}

impl LoadArgs {
    /// Mapped by default: only this program would end if somebody cut a file.
    pub(crate) fn loading(self) -> Loading {
        if self.no_mmap { Loading::Read } else { Loading::Map }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    Auto,
    Cpu,
    Vulkan,
    Cuda,
}

impl EngineArgs {
    /// The runtime's options for a batch of `batch` images.
    pub(crate) fn options(&self, batch: usize) -> Options {
        let backend = match self.backend {
            Backend::Auto => BackendKind::Auto,
            Backend::Cpu => BackendKind::Cpu,
            Backend::Vulkan => BackendKind::Vulkan,
            Backend::Cuda => BackendKind::Cuda,
        };
        let threads = self.threads.map(usize::from);
        Options { backend, device: self.device, threads, isa: self.isa, batch: Some(batch), ..Options::default() }
    }
}

fn parse_isa(name: &str) -> Result<Isa, String> {
    let known = || Isa::names().collect::<Vec<_>>().join(", ");
    Isa::from_name(name).ok_or_else(|| format!("this machine has {}", known()))
}

/// Parses `torch` or `philox`.
pub(crate) fn parse_rng(name: &str) -> Result<Rng, String> {
    [Rng::Torch, Rng::Philox].into_iter().find(|rng| rng.name() == name).ok_or_else(|| "use torch or philox".into())
}

/// Parses a weight type.
pub(crate) fn parse_type(name: &str) -> Result<DType, String> {
    let types = [DType::F32, DType::F16, DType::BF16, DType::I8];
    types.into_iter().find(|t| t.name() == name).ok_or_else(|| "use f32, f16, bf16 or int8".into())
}

/// Returns the file name's extension in lower case.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Prints help, a version, or a one-line error; returns the exit code.
pub(crate) fn report(e: &ClapError) -> u8 {
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = e.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            2
        }
        _ => {
            text::error_line(&one_line(&e.render().to_string()));
            2
        }
    }
}

/// Condenses clap's report to one line: the problem, clap's tips, and where to find help.
fn one_line(report: &str) -> String {
    let mut lines = report.lines().map(str::trim);
    let problem: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let problem = problem.join(" ");
    let mut out = problem.trim_start_matches("error: ").trim_end_matches('.').to_owned();
    for line in lines {
        if let Some(tip) = line.strip_prefix("tip: ") {
            out.push_str("; ");
            out.push_str(tip);
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            let command = usage.split_whitespace().take_while(|word| word.starts_with(char::is_alphabetic));
            let command: Vec<&str> = command.take(2).collect();
            out.push_str(&format!(" (see `{} --help`)", command.join(" ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_become_one_line() {
        let report = "error: unexpected argument '--stpes' found\n\n  tip: a similar argument exists: '--steps'\n\n\
            Usage: denoir generate --steps <N>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(report),
            "unexpected argument '--stpes' found; a similar argument exists: '--steps' (see `denoir generate --help`)"
        );
        let report = "error: the following required arguments were not provided:\n  --seed <S>\n  --shape <S>\n\n\
            Usage: denoir noise --seed <S>\n";
        let line =
            "the following required arguments were not provided: --seed <S> --shape <S> (see `denoir noise --help`)";
        assert_eq!(one_line(report), line);
    }
}
