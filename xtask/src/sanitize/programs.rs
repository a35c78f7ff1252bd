//! What runs under a sanitizer: the op matrix, the C examples, and the stress program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build::Build;
use crate::cargo;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool;

/// Cases of each kernel, spread over its table: sanitizers are slow.
const CASES: &str = "120";
/// The rows of the op matrix for every instruction set, but for no GPU.
const ROWS: &str = if cfg!(target_arch = "x86_64") { "scalar,avx,amx" } else { "scalar,neon" };
/// Guided models with int8 and every other type of weights.
const MODELS: [&str; 2] = ["tests/bare/tiny.gguf", "tests/bare/int8.gguf"];

/// The model of the C examples, and a class of it.
const DEMO: (&str, &str) = ("fixtures/demo/emoji.gguf", "0");
/// The C and C++ examples.
const EXAMPLES: [(&str, &str); 3] = [("generate.c", "cc"), ("devices.c", "cc"), ("threads.cpp", "c++")];
/// Libraries that a static libdenoir needs.
const LIBRARIES: [&str; 6] = ["-lgcc_s", "-lpthread", "-ldl", "-lm", "-lrt", "-lc"];

/// Runs the op matrix on every instruction set; says how many tests.
pub(super) fn matrix(build: &Build<'_>, options: &[(&str, &str)]) -> Result<String, Error> {
    let mut command = build.cargo(&["test", "--package", "denoir-tests", "--test", "op_matrix"]);
    command.env("DENOIR_ROW", ROWS).env("DENOIR_CASES", CASES).envs(options.iter().copied());
    // A child process ends as a sanitizer's own handler wants it to.
    command.args(["--", "--skip", "an_element_too_far"]);
    let counts = cargo::counted(&mut command)?;
    Ok(format!("op matrix {counts}"))
}

/// Runs guided passes with int8 weights on two and three threads; says how many tests.
pub(super) fn passes(build: &Build<'_>, options: &[(&str, &str)]) -> Result<String, Error> {
    let mut command = build.cargo(&["test", "--package", "denoir-bare", "--test", "threads"]);
    let counts = cargo::counted(command.envs(options.iter().copied()))?;
    Ok(format!("guided passes {counts}"))
}

/// Builds the C and C++ examples with these flags, against the static library, and runs them; says how many.
pub(super) fn examples(build: &Build<'_>, flags: &[&str], options: &[(&str, &str)]) -> Result<String, Error> {
    let programs = build_examples(build, flags)?;
    let image = build.folder.join("sanitized.ppm");
    let root = &build.project.root;
    for program in &programs {
        let mut run = build.project.command(program);
        run.envs(options.iter().copied());
        match program.file_stem().and_then(|stem| stem.to_str()) {
            Some("generate") => drop(run.arg(root.join(DEMO.0)).arg(DEMO.1).arg(&image)),
            Some("threads") => drop(run.arg(root.join(DEMO.0))),
            _ => {}
        }
        tool::run(run.stdout(Stdio::null()))?;
    }
    let bytes = fs::read(&image).map_err(Error::file(&image))?;
    if !bytes.starts_with(b"P6\n") {
        return Err(Error::Form { what: "the C example drew no image".into() });
    }
    Ok(format!("{} C and C++ programs", programs.len()))
}

fn build_examples(build: &Build<'_>, flags: &[&str]) -> Result<Vec<PathBuf>, Error> {
    tool::run(&mut build.cargo(&["build", "--package", "denoir-capi"]))?;
    let runtime = build.runtime()?;
    let folder = build.folder.join("examples");
    fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    EXAMPLES
        .iter()
        .map(|(source, compiler)| {
            let program = folder.join(Path::new(source).file_stem().unwrap_or_default());
            let object = program.with_extension("o");
            let source = Path::new("capi/examples").join(source);
            let mut compile = build.project.command(compiler);
            compile.args(["-g", "-c", "-I", "capi/include"]).args(flags).arg(source).arg("-o").arg(&object);
            tool::run(&mut compile)?;
            let mut link = build.project.command(compiler);
            link.arg(&object).arg(build.output().join("libdenoir_capi.a"));
            match &runtime {
                // The compiler's own library of the same sanitizer would be a second one.
                Some(runtime) => drop(link.args(["-Wl,--whole-archive"]).arg(runtime).arg("-Wl,--no-whole-archive")),
                None => drop(link.args(flags)),
            }
            tool::run(link.args(LIBRARIES).arg("-o").arg(&program))?;
            Ok(program)
        })
        .collect()
}

/// Runs the stress program on every model with this many threads to a pipeline; says what it drew.
pub(super) fn stress(build: &Build<'_>, seconds: u32, threads: u32, options: &[(&str, &str)]) -> Result<String, Error> {
    tool::run(&mut build.cargo(&["build", "--package", "denoir", "--example", "stress", "--no-default-features"]))?;
    let program = build.output().join("examples/stress");
    let (mut drawn, mut stopped, mut levels) = (0, 0, 0);
    for model in MODELS {
        let mut run = build.project.command(&program);
        run.arg(build.project.root.join(model)).arg(seconds.to_string()).arg(threads.to_string());
        let text = tool::output(run.envs(options.iter().copied()))?;
        print!("{text}");
        // `stress: LEVEL: 12 images drawn, each the same; 3 jobs stopped`
        for line in text.lines().filter(|line| line.starts_with("stress: ")) {
            let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
            drawn += numbers.next().unwrap_or(0);
            stopped += numbers.next().unwrap_or(0);
            levels += 1;
        }
    }
    if drawn == 0 || stopped == 0 {
        return Err(Error::Form { what: "the stress program drew nothing".into() });
    }
    Ok(format!("2 × {threads} threads: {drawn} images, {stopped} stops, {levels} models and levels"))
}

/// Runs the C example under valgrind, on the instruction sets that it knows.
pub(super) fn valgrind(build: &Build<'_>) -> Result<Outcome, Error> {
    build_examples(build, &[])?;
    let program = build.folder.join("examples/generate");
    let image = build.folder.join("sanitized.ppm");
    let levels: &[&str] = if cfg!(target_arch = "x86_64") { &["scalar", "avx2"] } else { &["scalar", "neon"] };
    for level in levels {
        let mut run = Command::new("valgrind");
        run.current_dir(&build.project.root);
        run.args(["--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]);
        run.args(["--show-leak-kinds=definite,indirect", "--fair-sched=yes"]);
        run.arg(&program).arg(MODELS[1]).arg("0").arg(&image).arg(level);
        tool::run(&mut run)?;
    }
    Ok(Outcome::Note(format!("the C example on {}", levels.join(" and "))))
}
