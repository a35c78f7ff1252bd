//! The entry point of every check and every generated file: `cargo xtask help` lists them.

mod aarch64;
mod bare;
mod capi;
mod cargo;
mod ci;
mod circles;
mod cuda;
mod deny;
mod error;
mod fuzz;
mod generate;
mod gpu_kit;
mod lint;
mod loops;
mod outcome;
mod peers;
mod python;
mod quick;
mod sanitize;
mod setup;
mod shaders;
mod source;
mod testing;
mod tool;
mod unsafe_rooms;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use error::Error;
use tool::Project;

const HELP: &str = "\
cargo xtask COMMAND

  quick          format, lints, and the tests for what changed since the branch or --since REVISION; no installing
  ci             looks for what the checks need, installs it (Debian; elsewhere it says what to install), then runs
                 every check below, in this order, with times and a summary
  fmt            formatting: cargo fmt --check
  lint           the project's own rules: arrows between crates, no std in core, ceilings for unsafe code, ...
  deny           licences, sources, versions and advisories of all dependencies, by cargo-deny
  clippy         cargo clippy on all targets, warnings denied
  test           cargo test on the workspace; no test at all is a failure
  matrix         kernels with cooperative matrices on Debian testing's software Vulkan
  cuda           the CUDA kernels compiled anew and compared, by NVIDIA's compilers from PyPI; no spills
  loops          cycles of the inner loops by llvm-mca's models of cores, compared with
                 benches/record/inner-loops.md; with --update writes that table
  doc            cargo doc, warnings denied
  capi           the C library installed, and C and C++ programs built against it and run
  aarch64        the op matrix for aarch64, on processors that QEMU plays
  bare           core and a freestanding program built for bare targets; the program run under an emulator

  fuzz           every fuzz target for half a minute, with AddressSanitizer; with --target NAME and --seconds N one, or each
                 for longer; with --hours N all for so many processor-hours, added to benches/record/fuzzing.md; with
                 --merge the inputs found are added to fuzz/corpus

  gpu-day        the kit for a GPU built from what the tests built, and its day rehearsed without one

  advisories     looks all dependencies up in the database of advisories, and records it: benches/record/advisories.txt
  gpu-kit        builds the kit for a machine with a GPU, in .kit: see benches/record/README.md
  gpu-model ...  what an evaluation should cost a GPU, launch by launch, without one; what follows is for benches/gpu_model:
                 --card, --shape, --type, --batch, --picture, --measured
  generate       writes the generated files; with --check (as in ci) says whether they are up to date
  install        builds libdenoir and puts it, its header, pkg-config and CMake files below --prefix DIR
  sanitize       sanitizers over the op matrix, the C examples and a stress program; valgrind, Miri, loom
                 (--only address,thread,undefined,valgrind,miri,loom or parts: address/matrix,address/examples,
                 address/stress; --seconds N of stress)
  peers ...      times denoir beside PyTorch, ONNX Runtime and OpenVINO; what follows is for benches/peers/run.py
  setup          the first part of ci alone: what the checks need
  help           this text

  --require DEVICES   for ci and test: what must be here, so that nothing is skipped for the lack of it: vulkan, cuda,
                      avx2, avx512, separated by commas. Tests read it from DENOIR_REQUIRE.
  --without CHECKS    for ci and setup: checks that are left out, with what only they need, separated by commas. The
                      summary names them. Without matrix, generate does not compile the shaders with cooperative matrices.
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Usage(text)) => {
            eprintln!("xtask: {text}\n\n{HELP}");
            ExitCode::from(2)
        }
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The parsed command line.
#[derive(Default)]
struct Args {
    command: Option<String>,
    check: bool,
    update: bool,
    prefix: Option<String>,
    since: Option<String>,
    require: Option<String>,
    without: Option<String>,
    only: Option<String>,
    seconds: Option<u32>,
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, Error> {
        let mut parsed = Args::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| Error::Usage(format!("{arg} needs a value")));
            match arg.as_str() {
                "--require" => parsed.require = Some(value()?),
                "--without" => parsed.without = Some(value()?),
                "--only" => parsed.only = Some(value()?),
                "--seconds" => {
                    let number = value()?.parse().map_err(|_| Error::Usage("--seconds takes a number".into()))?;
                    parsed.seconds = Some(number);
                }
                "--prefix" => parsed.prefix = Some(value()?),
                "--since" => parsed.since = Some(value()?),
                "--check" => parsed.check = true,
                "--update" => parsed.update = true,
                "-h" | "--help" => parsed.command = Some("help".to_owned()),
                _ if arg.starts_with('-') => return Err(Error::Usage(format!("unknown option {arg}"))),
                _ if parsed.command.is_some() => return Err(Error::Usage(format!("unexpected argument {arg}"))),
                _ => parsed.command = Some(arg),
            }
        }
        let command = parsed.command.as_deref();
        if parsed.check && command != Some("generate") {
            return Err(Error::Usage("--check is for generate".into()));
        }
        if parsed.update && command != Some("loops") {
            return Err(Error::Usage("--update is for loops".into()));
        }
        if parsed.prefix.is_some() != (command == Some("install")) {
            return Err(Error::Usage("install and --prefix DIR belong together".into()));
        }
        if (parsed.only.is_some() || parsed.seconds.is_some()) && command != Some("sanitize") {
            return Err(Error::Usage("--only and --seconds are for sanitize".into()));
        }
        if parsed.since.is_some() && command != Some("quick") {
            return Err(Error::Usage("--since is for quick".into()));
        }
        Ok(parsed)
    }
}

fn run(args: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut args = args.peekable();
    if args.next_if(|arg| arg == "peers").is_some() {
        return peers::run(&Project::new(None, None)?, &args.collect::<Vec<_>>());
    }
    if args.next_if(|arg| arg == "gpu-model").is_some() {
        let model = ["run", "-q", "--release", "-p", "denoir-benches", "--bin", "gpu_model", "--"].map(str::to_owned);
        return tool::run(&mut Project::new(None, None)?.cargo(model.into_iter().chain(args)));
    }
    if args.peek().is_some_and(|arg| arg == "fuzz") {
        return fuzz::command(&Project::new(None, None)?, &args.skip(1).collect::<Vec<_>>());
    }
    let Args { command, check, update, prefix, since, require, without, only, seconds } = Args::parse(args)?;
    let command = command.ok_or_else(|| Error::Usage("which command?".into()))?;
    if command == "help" {
        print!("{HELP}");
        return Ok(());
    }
    let checks = || without.iter().flat_map(|checks| checks.split(','));
    if let Some(unknown) = checks().find(|check| ci::STEPS.iter().all(|step| step.name != *check)) {
        return Err(Error::Usage(format!("--without knows the checks of ci, not {unknown}")));
    }
    let project = Project::new(require, without)?;
    if let Some(prefix) = prefix {
        return capi::install(&project, Path::new(&prefix));
    }
    match command.as_str() {
        "ci" => ci::run(&project),
        "quick" => quick::run(&project, since.as_deref()),
        "sanitize" => {
            let only = only.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
            sanitize::run(&project, &sanitize::Settings { only, seconds: seconds.unwrap_or(sanitize::SECONDS) })
        }
        "setup" => setup::run(&project),
        "advisories" => deny::record(&project),
        "gpu-kit" => gpu_kit::write(&project),
        "loops" if update => loops::update(&project),
        "generate" if !check => generate::write(&project),
        name => match ci::STEPS.iter().find(|step| step.name == name) {
            Some(step) => (step.run)(&project).map(|outcome| println!("{name}: {outcome}")),
            None => Err(Error::Usage(format!("unknown command {name}"))),
        },
    }
}
