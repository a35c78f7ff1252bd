//! The aarch64 kernels on other machines: built for aarch64 Linux and run under QEMU user-mode emulation.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::bare;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::testing;
use crate::tool::{self, Project};

const TARGET: &str = "aarch64-unknown-linux-gnu";
pub(crate) const LINKER: &str = "aarch64-linux-gnu-gcc";
pub(crate) const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross compiler keeps the C library.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Debian's standard library for Rust, of the version of its compiler.
const STD: &str = "libstd-rust-web-dev";
const COMPILER: &str = "rustc-web";
const CURE: &str = "run `cargo xtask setup`";
/// What Rust calls the architecture.
const NAME: &str = "aarch64";

/// A CPU that QEMU emulates, and a level that it supports.
struct Processor {
    name: &'static str,
    /// The rows of the op matrix to run: those of levels with this word in their names.
    rows: &'static str,
    /// A row that must run.
    required: &'static str,
    /// How many cases of each kernel to run.
    cases: &'static str,
}

/// One CPU with every extension, and one with NEON only, which faults on any other instruction. Emulation is slow, and
/// the kernels' algorithms are those that `test` runs all cases of: a part of them is enough for another architecture's
/// instructions. `DENOIR_SEED` chooses another part.
const PROCESSORS: &[Processor] = &[
    Processor { name: "max", rows: "neon", required: "neon-bf16", cases: "160" },
    Processor { name: "cortex-a57", rows: "neon", required: "neon", cases: "48" },
];

/// Runs the op matrix, and draws the golden image, which the scalar kernels reproduce byte for byte on every
/// architecture.
pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    if is_native() {
        return Ok(Outcome::Note("this machine is one: `test` has run them".into()));
    }
    let missing = || Error::Missing { what: "Rust's library for aarch64".into(), cure: CURE.into() };
    let toolchain = Toolchain::find(project).ok_or_else(missing)?;
    for processor in PROCESSORS {
        println!("{}:", processor.name);
        let mut command = toolchain.cargo(project)?;
        command.args(["test", "--locked", "--package", "denoir-bare", "--test", "golden"]);
        command.args(["--package", "denoir-tests", "--test", "op_matrix", "--test", "stack"]);
        // Without the published tokenizer, which is half of all that would be compiled.
        command.args(["--no-default-features", "--features", "denoir-bare/all"]);
        command.env("DENOIR_ROW", processor.rows).env("DENOIR_REQUIRE", processor.required);
        command.env("DENOIR_CASES", processor.cases);
        let runner = format!("{EMULATOR} -cpu {} -L {LIBRARIES}", processor.name);
        tool::run(command.env(variable("RUNNER"), runner))?;
    }
    let cases = PROCESSORS.iter().map(|processor| format!("{} on {}", processor.cases, processor.name));
    Ok(Outcome::Note(format!("small stacks, and cases of each kernel: {}", cases.collect::<Vec<_>>().join(", "))))
}

/// A compiler that has the target, or Debian's with the standard library unpacked next to the build.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: Option<PathBuf>,
}

impl Toolchain {
    fn find(project: &Project) -> Option<Toolchain> {
        let [own, debian] = bare::candidates();
        for (cargo, rustc) in [&own, &debian] {
            if bare::has_target(rustc, TARGET) {
                return Some(Toolchain { cargo: cargo.clone(), rustc: rustc.clone(), sysroot: None });
            }
        }
        let (cargo, rustc) = debian;
        let unpacked = fs::read_to_string(stamp(project)).ok()?;
        let sysroot = Some(folder(project).join("tree/usr"));
        (unpacked == installed(project)?).then_some(Toolchain { cargo, rustc, sysroot })
    }

    /// Cargo for the target, fully optimised because emulation is slow.
    fn cargo(&self, project: &Project) -> Result<Command, Error> {
        let mut command = project.command(&self.cargo);
        command.env("RUSTC", &self.rustc).env(variable("LINKER"), LINKER).env("CARGO_BUILD_TARGET", TARGET);
        command.env("CARGO_TARGET_DIR", tool::target_folder()?.join(NAME));
        command.env("CARGO_PROFILE_DEV_INCREMENTAL", "false").env("CARGO_PROFILE_DEV_DEBUG", "false");
        let sysroot = self.sysroot.as_ref().map(|sysroot| format!(" --sysroot {}", sysroot.display()));
        command.env("RUSTFLAGS", format!("-D warnings{}", sysroot.unwrap_or_default()));
        Ok(command)
    }
}

/// Cargo for aarch64 Linux, and the rustc that it uses.
pub(crate) fn compiler(project: &Project) -> Result<(Command, PathBuf), Error> {
    let missing = || Error::Missing { what: "Rust's library for aarch64".into(), cure: CURE.into() };
    let toolchain = Toolchain::find(project).ok_or_else(missing)?;
    Ok((toolchain.cargo(project)?, toolchain.rustc))
}

/// Returns whether this machine is an aarch64 one.
pub(crate) fn is_native() -> bool {
    std::env::consts::ARCH == NAME
}

/// Returns whether some toolchain builds for aarch64.
pub(crate) fn is_ready(project: &Project) -> bool {
    is_native() || Toolchain::find(project).is_some()
}

/// Installs a standard library for aarch64 if no toolchain has one: with rustup, or Debian's.
pub(crate) fn make(project: &Project) -> Result<(), Error> {
    bare::add_target(project, TARGET);
    if is_ready(project) { Ok(()) } else { unpack(project) }
}

/// Unpacks Debian's next to the build. apt-get finds and checks the package, as an ordinary user and with separate
/// lists.
fn unpack(project: &Project) -> Result<(), Error> {
    let missing = || Error::Missing { what: format!("Debian's {COMPILER}"), cure: CURE.into() };
    let version = installed(project).ok_or_else(missing)?;
    let folder = folder(project);
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial")).map_err(Error::file(&lists))?;
    let apt = || {
        let mut command = project.command("apt-get");
        command.current_dir(&folder).arg("-q").arg("-o").arg(format!("Dir::State::Lists={}", lists.display()));
        command.args([
            "-o",
            "APT::Architectures=arm64",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Debug::NoLocking=true",
        ]);
        command
    };
    // apt-get has said why; its command line is long.
    let unreachable = |_| Error::Form { what: format!("apt-get cannot fetch Debian's {STD}") };
    tool::run(apt().arg("update").args(testing::IMPATIENT)).map_err(unreachable)?;
    tool::run(apt().arg("download").arg(format!("{STD}:arm64={version}"))).map_err(unreachable)?;
    let (archives, tree) = (fs::read_dir(&folder).map_err(Error::file(&folder))?, folder.join("tree"));
    for entry in archives {
        let path = entry.map_err(Error::file(&folder))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            tool::run(project.command("dpkg-deb").arg("-x").arg(&path).arg(&tree))?;
            fs::remove_file(&path).map_err(Error::file(&path))?;
        }
    }
    // What a later call looks for comes last.
    fs::write(stamp(project), version).map_err(Error::file(stamp(project)))
}

/// The version of Debian's compiler on this machine.
fn installed(project: &Project) -> Option<String> {
    let mut query = project.command("dpkg-query");
    let output = query.args(["-W", "-f", "${Version}", COMPILER]).output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok().filter(|version| !version.is_empty())
}

/// The name of a setting of cargo for the target.
fn variable(setting: &str) -> String {
    format!("CARGO_TARGET_{}_{setting}", TARGET.replace('-', "_").to_uppercase())
}

fn folder(project: &Project) -> PathBuf {
    project.root.join("target/aarch64-std")
}

fn stamp(project: &Project) -> PathBuf {
    folder(project).join("complete")
}
