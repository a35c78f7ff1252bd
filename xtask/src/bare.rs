//! Core without an operating system: builds it for bare targets and runs it under an emulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};

/// A bare target and an emulator of a machine for it.
struct Machine {
    name: &'static str,
    target: &'static str,
    /// Target features beyond the target's defaults: a bare machine has no system to detect them with.
    features: &'static str,
    /// Features of `denoir-bare`: a machine without vectors takes no kernels for them.
    cargo_features: &'static [&'static str],
    emulator: &'static str,
    args: &'static [&'static str],
}

const MACHINES: &[Machine] = &[
    Machine {
        name: "Cortex-M4 with floating point",
        target: "thumbv7em-none-eabihf",
        features: "",
        cargo_features: &["--no-default-features", "--features", "denoir-bare/types"],
        emulator: "qemu-system-arm",
        args: &["-M", "mps2-an386", "-serial", "none", "-monitor", "none"],
    },
    Machine {
        name: "Cortex-A53",
        target: "aarch64-unknown-none",
        features: "",
        cargo_features: &[],
        emulator: "qemu-system-aarch64",
        args: &["-M", "virt", "-cpu", "cortex-a53", "-m", "64M", "-nodefaults"],
    },
    Machine {
        name: "Armv8 with dot products and int8 matrices",
        target: "aarch64-unknown-none",
        features: "+dotprod,+i8mm",
        cargo_features: &[],
        emulator: "qemu-system-aarch64",
        args: &["-M", "virt", "-cpu", "max", "-m", "64M", "-nodefaults"],
    },
];

/// What a program for one type of weights may take of code and constants, its model and golden image not counted.
struct Size {
    /// The features of `denoir-bare`.
    features: &'static str,
    /// Stem of the model's and the golden image's files.
    model: &'static str,
    /// Bytes.
    limit: u64,
}

/// On the first machine, optimised for size at link time too: 105,604 and 125,676 bytes in 2026-11.
const SIZES: &[Size] = &[
    Size { features: "", model: "f32", limit: 108 << 10 },
    Size { features: "int8", model: "int8", limit: 128 << 10 },
];

/// The program prints and exits by semihosting.
const SEMIHOSTING: &[&str] = &["-display", "none", "-semihosting-config", "enable=on,target=native"];
/// The program takes well under a second.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Substrings of allocator symbols, mangled or not.
const ALLOCATOR: &[u8] = b"__rust_alloc";

/// Builds core and the freestanding program for both targets, and runs the program.
pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    let linker = linker().ok_or_else(|| Error::Missing { what: "an ELF linker".into(), cure: CURE.into() })?;
    let folder = tool::target_folder()?.join("bare");
    for machine in MACHINES {
        let mut build = machine.build(project, &linker, &folder)?;
        tool::run(build.args(["-p", "denoir-core", "-p", "denoir-bare"]).args(machine.cargo_features))?;

        let program = folder.join(machine.target).join("bare/denoir-bare");
        let bytes = fs::read(&program).map_err(Error::file(&program))?;
        if bytes.windows(ALLOCATOR.len()).any(|window| window == ALLOCATOR) {
            return Err(Error::Form { what: format!("the program for {} holds an allocator", machine.target) });
        }
        if !tool::exists(machine.emulator) {
            return Err(Error::Missing { what: machine.emulator.into(), cure: CURE.into() });
        }
        println!("{}, {}:", machine.target, machine.name);
        machine.run(project, &program)?;
    }
    check_sizes(project, &MACHINES[0], &linker, &folder)?;
    Ok(Outcome::Note(format!("the golden image on {} bare machines", MACHINES.len())))
}

/// Builds and runs the programs for one type of weights, and measures them.
fn check_sizes(project: &Project, machine: &Machine, linker: &Path, folder: &Path) -> Result<(), Error> {
    let folder = folder.join("small");
    for size in SIZES {
        let mut build = machine.build(project, linker, &folder)?;
        build.args([
            "-p",
            "denoir-bare",
            "--bin",
            "denoir-small",
            "--no-default-features",
            "--features",
            size.features,
        ]);
        build.env("CARGO_PROFILE_BARE_LTO", "fat").env("CARGO_PROFILE_BARE_CODEGEN_UNITS", "1");
        build.env("CARGO_PROFILE_BARE_PANIC", "abort");
        tool::run(&mut build)?;
        let program = folder.join(machine.target).join("bare/denoir-small");
        machine.run(project, &program)?;

        let file = |extension| project.root.join(format!("tests/bare/{}.{extension}", size.model));
        let data = file_bytes(&file("gguf"))? + file_bytes(&file("golden"))?;
        let code = loaded_bytes(&program)?.saturating_sub(data);
        println!("{}: {} alone: {code} bytes of code and constants", machine.name, size.model);
        if code > size.limit {
            return Err(Error::Form {
                what: format!("a program for {} takes more than {} bytes", size.model, size.limit),
            });
        }
    }
    Ok(())
}

fn file_bytes(path: &Path) -> Result<u64, Error> {
    Ok(fs::metadata(path).map_err(Error::file(path))?.len())
}

/// Bytes of a 32-bit ELF program's segments in its file.
fn loaded_bytes(program: &Path) -> Result<u64, Error> {
    let bytes = fs::read(program).map_err(Error::file(program))?;
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let loaded = || {
        let (first, size, count) = (word(28)? as usize, half(42)?, half(44)?);
        let headers = (0..count).map(|i| first + usize::from(i * size));
        headers.filter(|&at| word(at) == Some(1)).map(|at| word(at + 16).map(u64::from)).sum::<Option<u64>>()
    };
    loaded().ok_or_else(|| Error::Form { what: format!("{} is no ELF program", program.display()) })
}

impl Machine {
    /// A build for this machine.
    fn build(&self, project: &Project, linker: &Path, folder: &Path) -> Result<Command, Error> {
        let toolchain = Toolchain::find(self.target)
            .ok_or_else(|| Error::Missing { what: format!("core for {}", self.target), cure: CURE.into() })?;
        let mut build = toolchain.build(project, self);
        build.arg("--target-dir").arg(folder);
        build.env(format!("CARGO_TARGET_{}_LINKER", self.target.replace('-', "_").to_uppercase()), linker);
        Ok(build)
    }

    /// Runs a program under the emulator.
    fn run(&self, project: &Project, program: &Path) -> Result<(), Error> {
        let mut emulator = project.command(self.emulator);
        tool::run_for(emulator.args(self.args).args(SEMIHOSTING).arg("-kernel").arg(program), TIME_LIMIT)?;
        Ok(())
    }
}

const CURE: &str = "run `cargo xtask setup`";

/// Returns whether some toolchain builds for every bare target.
pub(crate) fn has_toolchains() -> bool {
    MACHINES.iter().all(|machine| Toolchain::find(machine.target).is_some())
}

/// Returns whether there is a linker for bare targets.
pub(crate) fn has_linker() -> bool {
    linker().is_some()
}

/// Returns whether every emulator starts.
pub(crate) fn has_emulators() -> bool {
    MACHINES.iter().all(|machine| tool::exists(machine.emulator))
}

/// Adds the bare targets to the rustup toolchain, if any.
pub(crate) fn add_targets(project: &Project) {
    MACHINES.iter().for_each(|machine| add_target(project, machine.target));
}

/// Adds a target to the rustup toolchain, if any.
pub(crate) fn add_target(project: &Project, target: &str) {
    rustup(project, &["target", "add", target]);
}

/// Runs rustup, if installed.
pub(crate) fn rustup(project: &Project, args: &[&str]) {
    if tool::exists("rustup") {
        println!("setup: rustup {}", args.join(" "));
        if let Err(e) = tool::run_for(project.command("rustup").args(args), TIME_LIMIT) {
            println!("setup: {e}");
        }
    }
}

/// A compiler that can build core for a bare target.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// The standard `core` is built from source too. That needs an option that stable compilers hide.
    build_core: bool,
}

impl Toolchain {
    /// The first toolchain that has the target, or else the first that has the source of `core`.
    fn find(target: &str) -> Option<Toolchain> {
        let pairs = candidates();
        let with = |build_core| {
            let usable = |rustc: &Path| if build_core { has_source(rustc) } else { has_target(rustc, target) };
            let (cargo, rustc) = pairs.iter().find(|(_, rustc)| usable(rustc))?.clone();
            Some(Toolchain { cargo, rustc, build_core })
        };
        with(false).or_else(|| with(true))
    }

    fn build(&self, project: &Project, machine: &Machine) -> Command {
        let mut command = project.command(&self.cargo);
        let flags = format!("-D warnings -C target-feature={}", machine.features);
        command.env("RUSTC", &self.rustc).env("RUSTFLAGS", flags);
        command.args(["build", "--locked", "--profile", "bare", "--target", machine.target]);
        if self.build_core {
            command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core");
        }
        command
    }
}

/// Cargo and rustc: the ones that run this, and Debian's.
pub(crate) fn candidates() -> [(PathBuf, PathBuf); 2] {
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    [(cargo, "rustc".into()), ("/usr/bin/cargo".into(), "/usr/bin/rustc".into())]
}

/// A line that rustc prints about itself, as a path.
fn ask(rustc: &Path, args: &[&str]) -> Option<PathBuf> {
    let output = Command::new(rustc).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().into())
}

pub(crate) fn has_target(rustc: &Path, target: &str) -> bool {
    let files =
        ask(rustc, &["--print", "target-libdir", "--target", target]).and_then(|folder| fs::read_dir(folder).ok());
    files.into_iter().flatten().flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

pub(crate) fn has_source(rustc: &Path) -> bool {
    let source = "lib/rustlib/src/rust/library/core/Cargo.toml";
    ask(rustc, &["--print", "sysroot"]).is_some_and(|sysroot| sysroot.join(source).exists())
}

/// A linker: Rust's own from any toolchain, else LLVM's.
fn linker() -> Option<PathBuf> {
    let own = candidates().into_iter().find_map(|(_, rustc)| {
        let host = ask(&rustc, &["--print", "target-libdir"])?;
        Some(host.parent()?.join("bin/rust-lld")).filter(|linker| linker.exists())
    });
    own.or_else(|| tool::exists("ld.lld").then(|| "ld.lld".into()))
}
