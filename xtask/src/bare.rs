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
    /// What the compiler optimises for: small machines' programs are compiled for size.
    opt_level: &'static str,
    emulator: &'static str,
    args: &'static [&'static str],
}

const MACHINES: &[Machine] = &[
    Machine {
        name: "Cortex-M4 with floating point",
        target: "thumbv7em-none-eabihf",
        features: "",
        opt_level: "s",
        emulator: "qemu-system-arm",
        args: &["-M", "mps2-an386", "-serial", "none", "-monitor", "none"],
    },
    Machine {
        name: "Cortex-A53",
        target: "aarch64-unknown-none",
        features: "",
        opt_level: "3",
        emulator: "qemu-system-aarch64",
        args: &["-M", "virt", "-cpu", "cortex-a53", "-m", "64M", "-nodefaults"],
    },
    Machine {
        name: "Armv8 with dot products and int8 matrices",
        target: "aarch64-unknown-none",
        features: "+dotprod,+i8mm",
        opt_level: "3",
        emulator: "qemu-system-aarch64",
        args: &["-M", "virt", "-cpu", "max", "-m", "64M", "-nodefaults"],
    },
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
        let toolchain = Toolchain::find(machine.target)
            .ok_or_else(|| Error::Missing { what: format!("core for {}", machine.target), cure: CURE.into() })?;
        let mut build = toolchain.build(project, machine);
        build.args(["-p", "denoir-core", "-p", "denoir-bare", "--target-dir"]).arg(&folder);
        let linker_key = format!("CARGO_TARGET_{}_LINKER", machine.target.replace('-', "_").to_uppercase());
        build.env("CARGO_PROFILE_DEV_OPT_LEVEL", machine.opt_level);
        tool::run(build.env(linker_key, &linker).env("CARGO_PROFILE_DEV_DEBUG", "false"))?;

        let program = folder.join(machine.target).join("debug/denoir-bare");
        let bytes = fs::read(&program).map_err(Error::file(&program))?;
        if bytes.windows(ALLOCATOR.len()).any(|window| window == ALLOCATOR) {
            return Err(Error::Form { what: format!("the program for {} holds an allocator", machine.target) });
        }
        if !tool::exists(machine.emulator) {
            return Err(Error::Missing { what: machine.emulator.into(), cure: CURE.into() });
        }
        println!("{}, {}:", machine.target, machine.name);
        let mut emulator = project.command(machine.emulator);
        tool::run_for(emulator.args(machine.args).args(SEMIHOSTING).arg("-kernel").arg(&program), TIME_LIMIT)?;
    }
    Ok(Outcome::Note(format!("the golden image on {} bare machines", MACHINES.len())))
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
        command.args(["build", "--locked", "--target", machine.target]);
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

fn has_source(rustc: &Path) -> bool {
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
