//! Builds the kit for a day with a GPU: one archive below `.kit` with everything that `benches/gpu_day.sh` needs on a
//! machine without Rust or a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::python;
use crate::testing::Testing;
use crate::tool::{self, Project};

/// The test programs that use devices.
const TESTS: [&str; 4] = ["op_matrix", "op_goldens", "cuda", "vulkan"];
const PROGRAM: &str = "denoir";
/// The program that predicts evaluations, the cards that it does so for, and what `benches/gpu_day.sh` measures.
const MODEL: &str = "gpu_model";
const CARDS: [&str; 2] = ["h100", "h200"];
const PREDICTED: [(&str, &str, &[&str]); 9] = [
    ("jit-b16", "bf16", &["1"]),
    ("jit-b16", "f16", &["1"]),
    ("jit-b16", "int8", &["1"]),
    ("pixelgen-xl", "bf16", &["1", "2"]),
    ("pixelgen-xl", "f16", &["1", "2"]),
    ("pixelgen-xl", "int8", &["1", "2"]),
    ("pixelgen-xxl", "bf16", &["1"]),
    ("pixelgen-xxl", "f16", &["1"]),
    ("pixelgen-xxl", "int8", &["1"]),
];
/// Maximum size of the archive, which travels with the working tree.
const MOST_BYTES: u64 = 30 << 20;
/// Libraries of Debian testing: the loader, a validation layer that supports cooperative matrices, and its
/// dependencies.
const VULKAN: [&str; 3] = ["libvulkan.so.1", "libVkLayer_khronos_validation.so", "libstdc++.so.6"];
/// Time limit of the rehearsal in seconds.
const REHEARSAL: &str = "600";

/// How programs are built and packed.
#[derive(Clone, Copy, PartialEq)]
enum Build {
    /// As for users, as small as possible.
    Release,
    /// The existing test build, packed quickly.
    Rehearsal,
}

/// Builds the kit.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    let folder = project.root.join(".kit");
    let bytes = make(project, Build::Release, &folder)?;
    println!("gpu-kit: {:.1} MB in {}; `bash benches/gpu_day.sh` runs it", bytes as f64 / 1e6, folder.display());
    if bytes > MOST_BYTES {
        return Err(Error::Form { what: format!("the kit has {bytes} bytes, {MOST_BYTES} may travel") });
    }
    Ok(())
}

/// Builds a kit from the test build and rehearses the day with it in another folder, without cargo on the path.
pub(crate) fn rehearse(project: &Project) -> Result<Outcome, Error> {
    let away = tool::target_folder()?.join("gpu-day");
    remove(&away)?;
    fs::create_dir_all(&away).map_err(Error::file(&away))?;
    make(project, Build::Rehearsal, &away.join(".kit"))?;
    for part in ["benches", "cuda/modules", "fixtures", "tests/bare"] {
        copy_folder(project, &project.root.join(part), &away.join(part))?;
    }
    let mut command = Command::new("bash");
    command.current_dir(&away).args(["benches/gpu_day.sh", "--rehearse", "--out", "report"]);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LIMIT", REHEARSAL);
    tool::run(command.env("PYTHON", python::NUMPY.make(project)?))?;
    let summary = away.join("report/summary.txt");
    let text = fs::read_to_string(&summary).map_err(Error::file(&summary))?;
    let steps = text.lines().filter(|line| line.starts_with("step ")).count();
    let failed = text.lines().filter(|line| line.starts_with("step ") && line.contains("FAILED")).count();
    match (steps, failed) {
        (9, 0) => Ok(Outcome::Note("9 steps rehearsed without a GPU".into())),
        _ => Err(Error::Form { what: format!("{failed} of {steps} steps failed; 9 should pass") }),
    }
}

/// Writes the archive to `folder` and returns its size.
fn make(project: &Project, build: Build, folder: &Path) -> Result<u64, Error> {
    let stage = tool::target_folder()?.join("gpu-kit");
    remove(&stage)?;
    fs::create_dir_all(stage.join("emulator")).map_err(Error::file(&stage))?;
    let programs = programs(project, build)?;
    for name in TESTS.into_iter().chain([PROGRAM]) {
        let from = find(&programs, name)?;
        let to = stage.join(name);
        tool::run(project.command("strip").arg("-o").arg(&to).arg(&from.executable))?;
    }
    let emulator = emulator(&programs)?;
    for name in ["libcuda.so", "libcuda.so.1"] {
        copy(&emulator, &stage.join("emulator").join(name))?;
    }
    match Testing::find(project) {
        Some(testing) => {
            fs::create_dir_all(stage.join("layers")).map_err(Error::file(&stage))?;
            for name in VULKAN {
                let to = stage.join("layers").join(name);
                tool::run(project.command("strip").arg("-o").arg(to).arg(testing.library(name)))?;
            }
            copy(&testing.layer(), &stage.join("layers/VkLayer_khronos_validation.json"))?;
        }
        None => println!("gpu-kit: without Debian testing's Vulkan: `cargo xtask setup` brings it"),
    }
    if build == Build::Release {
        predict(project, &find(&programs, MODEL)?.executable, &stage.join("predicted"))?;
    }
    let revision = tool::output(project.command("git").args(["describe", "--always", "--dirty"])).unwrap_or_default();
    let about = stage.join("revision");
    fs::write(&about, revision).map_err(Error::file(&about))?;
    pack(project, build, &stage, folder)
}

/// Writes a file for each card, network, type and batch.
fn predict(project: &Project, model: &Path, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    for (card, (shape, dtype, batches)) in CARDS.iter().flat_map(|card| PREDICTED.map(|of| (card, of))) {
        for batch in batches {
            let mut command = project.command(model);
            command.args(["--card", card, "--shape", shape, "--type", dtype, "--batch", batch]);
            let to = folder.join(format!("{card}-{shape}-{dtype}-{batch}"));
            fs::write(&to, tool::output(&mut command)?).map_err(Error::file(&to))?;
        }
    }
    Ok(())
}

fn pack(project: &Project, build: Build, stage: &Path, folder: &Path) -> Result<u64, Error> {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let archive = folder.join("kit.tar.xz");
    let mut tar = project.command("tar");
    // Each program has all kernels in it. A dictionary larger than all of them stores those once.
    let level = if build == Build::Release { "-9e --lzma2=dict=192MiB" } else { "-1 -T2" };
    tar.env("XZ_OPT", level).args(["--owner=0", "--group=0", "-cJf"]).arg(&archive).arg("-C").arg(stage).arg(".");
    tool::run(&mut tar)?;
    Ok(fs::metadata(&archive).map_err(Error::file(&archive))?.len())
}

/// A program that cargo built.
struct Program {
    name: String,
    executable: PathBuf,
}

/// Builds and lists the programs; also build scripts' output folders, as `OUT_DIR`.
fn programs(project: &Project, build: Build) -> Result<Vec<Program>, Error> {
    let format = "--message-format=json-render-diagnostics";
    let mut lines = String::new();
    let mut cargo = |args: &[&str]| -> Result<(), Error> {
        lines += &tool::output(&mut project.cargo(args.iter().copied().chain([format])))?;
        Ok(())
    };
    match build {
        // What the tests before this check have built.
        Build::Rehearsal => cargo(&["test", "--workspace", "--no-run"])?,
        Build::Release => {
            let mut tests = vec!["test", "--release", "--no-run", "--package", "denoir-tests"];
            tests.extend(TESTS.iter().flat_map(|name| ["--test", *name]));
            cargo(&tests)?;
            cargo(&["build", "--release", "--package", "denoir-cli", "--features", "cuda"])?;
            cargo(&["build", "--release", "--package", "denoir-benches", "--bin", MODEL])?;
        }
    }
    let mut programs = Vec::new();
    for line in lines.lines() {
        let message: Value = serde_json::from_str(line).map_err(|e| Error::Form { what: format!("cargo: {e}") })?;
        let package = message["package_id"].as_str().unwrap_or_default();
        let named = |name: &str, executable: &Value| {
            executable.as_str().map(|path| Program { name: name.into(), executable: path.into() })
        };
        programs.extend(match message["reason"].as_str() {
            Some("compiler-artifact") => {
                let name = message["target"]["name"].as_str().unwrap_or_default();
                let is_test = message["profile"]["test"] == true;
                let wanted = if is_test { TESTS.contains(&name) } else { [PROGRAM, MODEL].contains(&name) };
                named(name, &message["executable"]).filter(|_| wanted)
            }
            Some("build-script-executed") if package.contains("denoir-tests") => named("OUT_DIR", &message["out_dir"]),
            _ => None,
        });
    }
    Ok(programs)
}

fn find<'p>(programs: &'p [Program], name: &str) -> Result<&'p Program, Error> {
    let found = programs.iter().find(|program| program.name == name);
    found.ok_or_else(|| Error::Form { what: format!("cargo built no {name}") })
}

/// The emulator's library.
fn emulator(programs: &[Program]) -> Result<PathBuf, Error> {
    let library = find(programs, "OUT_DIR")?.executable.join("libcuda.so");
    let missing = || Error::Missing { what: "the CUDA emulator".into(), cure: "install a C++ compiler".into() };
    if library.is_file() { Ok(library) } else { Err(missing()) }
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).map_err(Error::file(from))
}

fn copy_folder(project: &Project, from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::file(to))?;
    tool::run(project.command("cp").arg("-r").arg(from.join(".")).arg(to))
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file(folder)(e)),
        _ => Ok(()),
    }
}
