//! The C library: installs it as C and C++ programs expect, and builds such programs against it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};

/// A template in `capi/` and where it goes below the prefix.
const TEMPLATES: &[(&str, &str)] = &[
    ("denoir.pc.in", "lib/pkgconfig/denoir.pc"),
    ("denoir-config.cmake.in", "lib/cmake/denoir/denoir-config.cmake"),
    ("denoir-config-version.cmake.in", "lib/cmake/denoir/denoir-config-version.cmake"),
];
/// Libraries that programs must link in addition to the static library.
const SYSTEM_LIBRARIES: &[&str] = &["gcc_s", "pthread", "dl", "m", "c"];
/// Compiler flags under which header and examples must compile.
const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Builds the library for use and installs it below `prefix`.
pub(crate) fn install(project: &Project, prefix: &Path) -> Result<(), Error> {
    tool::run(&mut project.cargo(["build", "--release", "--package", "denoir-capi"]))?;
    lay_out(project, "release", prefix)?;
    println!("install: libdenoir, denoir.h, denoir.pc and denoir-config.cmake are in {}", prefix.display());
    Ok(())
}

/// Installs the library in the build folder, then builds and runs the examples against it as users would: with
/// pkg-config and CMake, shared and static.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    cargo::build(project)?;
    let work = tool::target_folder()?.join("capi");
    match fs::remove_dir_all(&work) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&work)(e)),
        _ => {}
    }
    let prefix = work.join("prefix");
    lay_out(project, "debug", &prefix)?;
    let soname = tool::output(project.command("readelf").arg("-d").arg(prefix.join("lib/libdenoir.so")))?;
    if !soname.contains(&format!("soname: [libdenoir.so.{}]", interface())) {
        return Err(Error::Form { what: "libdenoir.so does not name its interface".into() });
    }
    let by_pkg_config = with_pkg_config(project, &prefix, &work)?;
    let by_cmake = with_cmake(project, &prefix, &work)?;
    let image = work.join("image.ppm");
    let model = project.root.join("fixtures/demo/emoji.gguf");
    let mut first = Vec::new();
    for program in [&by_pkg_config, &by_cmake.join("generate"), &by_cmake.join("generate-static")] {
        let mut run = project.command(program);
        tool::run(run.arg(&model).arg("0").arg(&image).env("LD_LIBRARY_PATH", prefix.join("lib")))?;
        let bytes = fs::read(&image).map_err(Error::file(&image))?;
        if !bytes.starts_with(b"P6\n") || !(first.is_empty() || first == bytes) {
            return Err(Error::Form { what: format!("{} drew another image", program.display()) });
        }
        first = bytes;
    }
    let mut threads = project.command(by_cmake.join("threads"));
    tool::run(threads.arg(&model).env("LD_LIBRARY_PATH", prefix.join("lib")))?;
    let mut hosts = project.command(by_cmake.join("hosts"));
    tool::run(hosts.arg(&model).env("LD_LIBRARY_PATH", prefix.join("lib")))?;
    tool::run(project.command(by_cmake.join("devices")).env("LD_LIBRARY_PATH", prefix.join("lib")))?;
    Ok(Outcome::Note("examples in C99 and C++17, shared and static, by pkg-config and CMake".into()))
}

/// Builds the C example by hand.
fn with_pkg_config(project: &Project, prefix: &Path, work: &Path) -> Result<PathBuf, Error> {
    let mut ask = project.command("pkg-config");
    ask.args(["--cflags", "--libs", "denoir"]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let flags = tool::output(&mut ask)?;
    let program = work.join("generate");
    let mut cc = project.command("cc");
    cc.arg("-std=c99").args(STRICT).arg("capi/examples/generate.c").arg("-o").arg(&program);
    tool::run(cc.args(flags.split_whitespace()))?;
    Ok(program)
}

/// Builds all examples; returns the folder of the programs.
fn with_cmake(project: &Project, prefix: &Path, work: &Path) -> Result<PathBuf, Error> {
    let build = work.join("cmake");
    let mut configure = project.command("cmake");
    configure.args(["-S", "capi/examples", "-B"]).arg(&build);
    tool::run(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).arg("--log-level=WARNING"))?;
    tool::run(project.command("cmake").arg("--build").arg(&build))?;
    Ok(build)
}

/// Installs the files built with a profile below `prefix`.
fn lay_out(project: &Project, profile: &str, prefix: &Path) -> Result<(), Error> {
    let built = tool::target_folder()?.join(profile);
    let (lib, include) = (prefix.join("lib"), prefix.join("include"));
    for folder in [&lib, &include, &lib.join("pkgconfig"), &lib.join("cmake/denoir")] {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
    }
    let versioned = format!("libdenoir.so.{}", env!("CARGO_PKG_VERSION"));
    let named = format!("libdenoir.so.{}", interface());
    copy(&built.join("libdenoir_capi.so"), &lib.join(&versioned))?;
    copy(&built.join("libdenoir_capi.a"), &lib.join("libdenoir.a"))?;
    copy(&project.root.join("capi/include/denoir.h"), &include.join("denoir.h"))?;
    link(&versioned, &lib.join(&named))?;
    link(&named, &lib.join("libdenoir.so"))?;
    for (from, to) in TEMPLATES {
        let (from, to) = (project.root.join("capi").join(from), prefix.join(to));
        let text = fs::read_to_string(&from).map_err(Error::file(&from))?;
        let private: Vec<String> = SYSTEM_LIBRARIES.iter().map(|name| format!("-l{name}")).collect();
        let text = text
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
            .replace("@INTERFACE@", interface())
            .replace("@PRIVATE@", &private.join(" "))
            .replace("@LIBRARIES@", &SYSTEM_LIBRARIES.join(";"));
        fs::write(&to, text).map_err(Error::file(&to))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).map_err(Error::file(from))
}

/// A symbolic link to a neighbour.
#[cfg(unix)]
fn link(target: &str, at: &Path) -> Result<(), Error> {
    // One of an earlier installation.
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(target, at).map_err(Error::file(at))
}

/// A copy, on systems without links.
#[cfg(not(unix))]
fn link(target: &str, at: &Path) -> Result<(), Error> {
    copy(&at.with_file_name(target), at)
}

/// The part of the version that identifies the library's interface, as in `capi/build.rs`.
fn interface() -> &'static str {
    if env!("CARGO_PKG_VERSION_MAJOR") == "0" {
        concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"))
    } else {
        env!("CARGO_PKG_VERSION_MAJOR")
    }
}
