//! Compute shaders: `vulkan/shaders` in GLSL, `vulkan/spirv` compiled from it.
//!
//! A shader `<stem>.comp` becomes `<stem>.spv`; a variant is compiled from the same source with the variant's name, in
//! capitals, defined, and becomes `<stem>.<variant>.spv`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ci::Outcome;
use crate::error::Error;
use crate::tool::{self, Project};

/// The compiler, of the Debian package glslang-tools.
pub(crate) const COMPILER: &str = "glslangValidator";
/// Judges what it made; of the Debian package spirv-tools.
pub(crate) const VALIDATOR: &str = "spirv-val";
/// The compiler's version that `vulkan/spirv` is made with: another one's bytes differ.
const VERSION: &str = "12.0.0";
/// For the oldest Vulkan that the backend runs on; without names of variables and paths of sources.
const OPTIONS: &[&str] = &["-V", "--target-env", "vulkan1.1", "-Os", "-g0", "--quiet"];
/// Stems of shaders that have variants, and the variants.
const VARIANTS: &[(&str, &[&str])] = &[("linear", &["fp16"]), ("linear_int8", &["dot"])];
const CURE: &str = "cargo xtask setup";

/// A compiled shader.
struct Shader {
    source: PathBuf,
    /// Name of its file in `vulkan/spirv`.
    name: String,
    /// What is defined for it.
    define: Option<String>,
}

/// Compiles all shaders.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    let version = version()?;
    if version != VERSION {
        println!("shaders: this is glslang {version}; the checks compare with what glslang {VERSION} makes");
    }
    let folder = spirv(project);
    let shaders = shaders(project)?;
    for stray in strays(&folder, &shaders)? {
        fs::remove_file(&stray).map_err(Error::file(stray))?;
    }
    shaders.iter().try_for_each(|shader| compile(project, shader, &folder.join(&shader.name)))
}

/// Compiles all shaders anew and compares them with the committed ones, byte by byte where the compiler is the one
/// that made those.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    let version = version()?;
    let (folder, shaders) = (spirv(project), shaders(project)?);
    let fresh = project.root.join("target/spirv");
    fs::create_dir_all(&fresh).map_err(Error::file(&fresh))?;
    let mut findings = 0;
    for shader in &shaders {
        let (old, new) = (folder.join(&shader.name), fresh.join(&shader.name));
        compile(project, shader, &new)?;
        tool::run(project.command(VALIDATOR).args(["--target-env", "vulkan1.1"]).arg(&new))?;
        let same = read(&new)? == fs::read(&old).unwrap_or_default();
        if !same && version == VERSION {
            println!("{} is not what its source compiles to: run `cargo xtask generate`", old.display());
            findings += 1;
        }
    }
    for stray in strays(&folder, &shaders)? {
        println!("{} has no source", stray.display());
        findings += 1;
    }
    match (findings, version == VERSION) {
        (1.., _) => Err(Error::Findings(findings)),
        (0, true) => Ok(Outcome::Note(format!("{} shaders are what glslang {VERSION} makes", shaders.len()))),
        (0, false) => Ok(Outcome::Note(format!(
            "{} shaders compile, but were NOT compared: this is glslang {version}, not {VERSION}",
            shaders.len()
        ))),
    }
}

fn spirv(project: &Project) -> PathBuf {
    project.root.join("vulkan/spirv")
}

/// Every shader and variant, by name.
fn shaders(project: &Project) -> Result<Vec<Shader>, Error> {
    let mut shaders = Vec::new();
    for source in files(&project.root.join("vulkan/shaders"), "comp")? {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let variants = VARIANTS.iter().filter(|(of, _)| *of == stem).flat_map(|(_, variants)| *variants);
        for variant in variants {
            let (name, define) = (format!("{stem}.{variant}.spv"), Some(variant.to_uppercase()));
            shaders.push(Shader { source: source.clone(), name, define });
        }
        shaders.push(Shader { source, name: format!("{stem}.spv"), define: None });
    }
    Ok(shaders)
}

/// Compiled files that no source makes.
fn strays(folder: &Path, shaders: &[Shader]) -> Result<Vec<PathBuf>, Error> {
    let mut files = files(folder, "spv")?;
    files.retain(|file| shaders.iter().all(|shader| !file.ends_with(&shader.name)));
    Ok(files)
}

fn compile(project: &Project, shader: &Shader, to: &Path) -> Result<(), Error> {
    let mut command = project.command(COMPILER);
    command.args(OPTIONS).args(shader.define.iter().map(|define| format!("-D{define}")));
    tool::run(command.arg(&shader.source).arg("-o").arg(to))
}

/// The compiler's version, from its line `Glslang Version: 11:12.0.0`.
fn version() -> Result<String, Error> {
    let missing = || Error::Missing { what: COMPILER.into(), cure: CURE.into() };
    if !tool::exists(COMPILER) || !tool::exists(VALIDATOR) {
        return Err(missing());
    }
    let text = tool::output(Command::new(COMPILER).arg("--version"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Glslang Version: ")).ok_or_else(missing)?;
    Ok(line.rsplit(':').next().unwrap_or(line).trim().to_owned())
}

/// The files of a folder with this extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file(folder))? {
        let path = entry.map_err(Error::file(folder))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file(path))
}
