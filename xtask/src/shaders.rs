//! Compute shaders: compiles `vulkan/shaders` (GLSL) to `vulkan/spirv`.
//!
//! A shader `<stem>.comp` becomes `<stem>.spv`; a variant is compiled from the same source with the variant's name, in
//! capitals, defined, and becomes `<stem>.<variant>.spv`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::testing::Testing;
use crate::tool::{self, Project};

/// The compiler, of the Debian package glslang-tools.
pub(crate) const COMPILER: &str = "glslangValidator";
/// The validator of its output, from the Debian package spirv-tools.
pub(crate) const VALIDATOR: &str = "spirv-val";
/// Features that only Debian testing's compiler supports.
const MATRIX: &str = "GL_KHR_cooperative_matrix";
/// The compiler versions for `vulkan/spirv`, Debian 12's and Debian testing's; the output of others differs.
const VERSION: &str = "12.0.0";
const TESTING_VERSION: &str = "16.6.0";
/// For the oldest Vulkan that the backend runs on; without names of variables and paths of sources.
const OPTIONS: &[&str] = &["-V", "--target-env", "vulkan1.1", "-Os", "-g0", "--quiet"];
/// Stems of shaders that have variants, and the variants.
const VARIANTS: &[(&str, &[&str])] =
    &[("linear", &["fp16", "packed"]), ("linear_int8", &["dot"]), ("linear_matrix", &["bf16", "int8"])];
const CURE: &str = "run `cargo xtask setup`";

/// A compiled shader.
struct Shader {
    source: PathBuf,
    /// Name of its file in `vulkan/spirv`.
    name: String,
    /// What is defined for it.
    define: Option<String>,
    /// Whether it needs Debian testing's compiler.
    matrix: bool,
}

/// A compiler and its version.
struct Compiler {
    /// Its origin; `None` for this machine's own.
    testing: Option<Testing>,
    version: String,
    /// The version that made the committed files.
    wanted: &'static str,
}

/// Compiles all shaders.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    let (folder, shaders) = (spirv(project), shaders(project)?);
    for stray in strays(&folder, &shaders)? {
        fs::remove_file(&stray).map_err(Error::file(stray))?;
    }
    for compiler in compilers(project)? {
        if compiler.version != compiler.wanted {
            println!("shaders: the checks compare with glslang {}, this is {}", compiler.wanted, compiler.version);
        }
        let made = shaders.iter().filter(|shader| shader.matrix == compiler.testing.is_some());
        made.into_iter().try_for_each(|shader| compiler.compile(project, shader, &folder.join(&shader.name)))?;
    }
    Ok(())
}

/// Recompiles all shaders and compares them with the committed ones, byte by byte if the compiler version matches.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    let shaders = shaders(project)?;
    let (mut equal, mut findings) = (0, 0);
    for compiler in compilers(project)? {
        for shader in shaders.iter().filter(|shader| shader.matrix == compiler.testing.is_some()) {
            let same = compiler.is_current(project, shader)?;
            if compiler.version != compiler.wanted {
                println!("{} compiles, but was NOT compared: this is glslang {}", shader.name, compiler.version);
            } else if same {
                equal += 1;
            } else {
                println!("{} is not what its source compiles to: run `cargo xtask generate`", shader.name);
                findings += 1;
            }
        }
    }
    for stray in strays(&spirv(project), &shaders)? {
        println!("{} has no source", stray.display());
        findings += 1;
    }
    match findings {
        0 => Ok(Outcome::Note(format!("{equal} of {} shaders compared", shaders.len()))),
        _ => Err(Error::Findings(findings)),
    }
}

impl Compiler {
    /// The program of the same origin.
    fn command(&self, project: &Project, program: &str) -> Command {
        self.testing.as_ref().map_or_else(|| project.command(program), |testing| testing.command(project, program))
    }

    fn compile(&self, project: &Project, shader: &Shader, to: &Path) -> Result<(), Error> {
        let mut command = self.command(project, COMPILER);
        command.args(OPTIONS).args(shader.define.iter().map(|define| format!("-D{define}")));
        tool::run(command.arg(&shader.source).arg("-o").arg(to))
    }

    /// Checks that the shader compiles to a valid module; returns whether it equals the committed one.
    fn is_current(&self, project: &Project, shader: &Shader) -> Result<bool, Error> {
        let fresh = project.root.join("target/spirv");
        fs::create_dir_all(&fresh).map_err(Error::file(&fresh))?;
        let fresh = fresh.join(&shader.name);
        self.compile(project, shader, &fresh)?;
        tool::run(self.command(project, VALIDATOR).args(["--target-env", "vulkan1.1"]).arg(&fresh))?;
        let committed = fs::read(spirv(project).join(&shader.name)).unwrap_or_default();
        Ok(fs::read(&fresh).map_err(Error::file(&fresh))? == committed)
    }
}

/// This machine's compiler, and Debian testing's if unpacked.
fn compilers(project: &Project) -> Result<Vec<Compiler>, Error> {
    if !tool::exists(COMPILER) || !tool::exists(VALIDATOR) {
        return Err(Error::Missing { what: COMPILER.into(), cure: CURE.into() });
    }
    let mut compilers = vec![Compiler { testing: None, version: String::new(), wanted: VERSION }];
    if project.leaves_out("matrix") {
        println!("shaders: those with cooperative matrices are left out");
    } else {
        let testing = Some(Testing::get(project)?);
        compilers.push(Compiler { testing, version: String::new(), wanted: TESTING_VERSION });
    }
    for compiler in &mut compilers {
        // A line such as `Glslang Version: 11:12.0.0`.
        let text = tool::output(compiler.command(project, COMPILER).arg("--version"))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("Glslang Version: ")).unwrap_or("of no known version");
        compiler.version = line.rsplit(':').next().unwrap_or(line).trim().to_owned();
    }
    Ok(compilers)
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
        let text = fs::read_to_string(&source).map_err(Error::file(&source))?;
        let matrix = text.contains(MATRIX);
        for variant in variants {
            let (name, define) = (format!("{stem}.{variant}.spv"), Some(variant.to_uppercase()));
            shaders.push(Shader { source: source.clone(), name, define, matrix });
        }
        shaders.push(Shader { source, name: format!("{stem}.spv"), define: None, matrix });
    }
    Ok(shaders)
}

/// Compiled files without a source.
fn strays(folder: &Path, shaders: &[Shader]) -> Result<Vec<PathBuf>, Error> {
    let mut files = files(folder, "spv")?;
    files.retain(|file| shaders.iter().all(|shader| !file.ends_with(&shader.name)));
    Ok(files)
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
