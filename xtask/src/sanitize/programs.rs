//! What runs under a sanitizer: the op matrix, the C examples, and the stress program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build::Build;
use crate::cargo;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool;

/// Cases of each kernel, which the seed chooses, unless `DENOIR_CASES` says another number: sanitizers are slow.
pub(super) const CASES: &str = "120";
/// As [`CASES`], for a slower check.
pub(super) const FEW_CASES: &str = "24";
/// The rows of the op matrix for every instruction set, but for no GPU.
const ROWS: &str = if cfg!(target_arch = "x86_64") { "scalar,avx,amx" } else { "scalar,neon" };
/// Guided models with int8 and every other type of weights.
const MODELS: [&str; 2] = ["tests/bare/tiny.gguf", "tests/bare/int8.gguf"];

/// A model of images that one would draw, for the C examples; class 0 is drawn.
pub(super) const DEMO: &str = "fixtures/demo/emoji.gguf";
/// A small one.
pub(super) const SMALL: &str = MODELS[1];
/// The C and C++ examples.
const EXAMPLES: [(&str, &str); 3] = [("generate.c", "cc"), ("devices.c", "cc"), ("threads.cpp", "c++")];
/// Libraries that a static libdenoir needs.
const LIBRARIES: [&str; 6] = ["-lgcc_s", "-lpthread", "-ldl", "-lm", "-lrt", "-lc"];

/// Runs the op matrix on every instruction set, and guided passes with int8 weights on two and three threads; says how
/// many tests, cases and levels.
pub(super) fn matrix(build: &Build<'_>, cases: &str, options: &[(&str, &str)]) -> Result<String, Error> {
    // One command: alone, the passes would have the kernels built with other features of bytemuck. The tokenizer that
    // ours is compared with takes long to build, and nothing here uses it.
    let mut command = build.cargo(&["test", "--package", "denoir-bare", "--package", "denoir-tests"]);
    command.args(["--no-default-features", "--features", "denoir-bare/all"]);
    command.args(["--test", "threads", "--test", "op_matrix"]);
    let cases = std::env::var("DENOIR_CASES").unwrap_or_else(|_| cases.into());
    command.env("DENOIR_ROW", ROWS).env("DENOIR_CASES", cases).envs(options.iter().copied());
    // A child process ends as a sanitizer's own handler wants it to.
    command.args(["--", "--show-output", "--skip", "an_element_too_far"]);
    let mut matrix = Matrix::default();
    let counts = cargo::counted_lines(&mut command, |line| matrix.read(line))?;
    matrix.note().map(|cases| format!("matrix and guided passes: {counts}; {cases}"))
}

/// What ran of the op matrix, from the lines of its tests.
#[derive(Default)]
struct Matrix {
    kernels: u64,
    ran: u64,
    there: u64,
    levels: BTreeSet<String>,
}

impl Matrix {
    /// Adds a line such as `linear: 120 of 2232 cases in 9.3 s, seed 0x1`, or `linear: avx2+packed/3: at most 40% of
    /// what is allowed (int8)`.
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [_, ran, "of", there, "cases", "in", ..] if *ran != "0" => {
                self.kernels += 1;
                self.ran += ran.parse().unwrap_or(0);
                self.there += there.parse().unwrap_or(0);
            }
            [_, row, "at", "most", ..] => {
                self.levels.extend(row.split(['+', '/']).next().map(str::to_owned));
            }
            _ => {}
        }
    }

    fn note(&self) -> Result<String, Error> {
        if self.ran == 0 || self.levels.is_empty() {
            return Err(Error::Form { what: "no case of the op matrix ran".into() });
        }
        let Matrix { kernels, ran, there, levels } = self;
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        Ok(format!("{ran} of {there} cases of {kernels} kernels on {}", levels.join(" and ")))
    }
}

/// Builds the C and C++ examples with these flags, against the static library, and runs them; says how many.
pub(super) fn examples(
    build: &Build<'_>,
    flags: &[&str],
    model: &str,
    options: &[(&str, &str)],
) -> Result<String, Error> {
    let programs = build_examples(build, flags)?;
    let image = build.folder.join("sanitized.ppm");
    for program in &programs {
        let mut run = build.project.command(program);
        run.envs(options.iter().copied());
        match program.file_stem().and_then(|stem| stem.to_str()) {
            Some("generate") => drop(run.args([model, "0"]).arg(&image)),
            Some("threads") => drop(run.arg(model)),
            _ => {}
        }
        tool::run(run.stdout(Stdio::null()))?;
    }
    check_image(&image)?;
    Ok(format!("{} C and C++ programs", programs.len()))
}

/// Fails if the C example drew nothing; otherwise removes what it drew.
fn check_image(image: &Path) -> Result<(), Error> {
    let bytes = fs::read(image).map_err(Error::file(image))?;
    fs::remove_file(image).map_err(Error::file(image))?;
    if !bytes.starts_with(b"P6\n") {
        return Err(Error::Form { what: "the C example drew no image".into() });
    }
    Ok(())
}

fn build_examples(build: &Build<'_>, flags: &[&str]) -> Result<Vec<PathBuf>, Error> {
    tool::run(&mut build.cargo(&["build", "--package", "denoir-capi"]))?;
    let runtime = build.runtime()?;
    let folder = build.folder.join("examples");
    fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    let stay_loaded = compile(build, "cc", Path::new("xtask/src/sanitize/stay_loaded.c"), flags)?;
    EXAMPLES
        .iter()
        .map(|(source, compiler)| {
            let object = compile(build, compiler, &Path::new("capi/examples").join(source), flags)?;
            let program = object.with_extension("");
            let mut link = build.project.command(compiler);
            link.arg(&object).arg(build.output().join("libdenoir_capi.a"));
            match &runtime {
                // The compiler's own library of the same sanitizer would be a second one.
                Some(runtime) => {
                    link.arg(&stay_loaded).arg("-Wl,--whole-archive").arg(runtime).arg("-Wl,--no-whole-archive")
                }
                None => link.args(flags),
            };
            tool::run(link.args(LIBRARIES).arg("-o").arg(&program))?;
            Ok(program)
        })
        .collect()
}

/// Compiles a source to an object in the folder of the examples.
fn compile(build: &Build<'_>, compiler: &str, source: &Path, flags: &[&str]) -> Result<PathBuf, Error> {
    let name = source.with_extension("o");
    let object = build.folder.join("examples").join(name.file_name().unwrap_or_default());
    let mut command = build.project.command(compiler);
    tool::run(command.args(["-g", "-c", "-I", "capi/include"]).args(flags).arg(source).arg("-o").arg(&object))?;
    Ok(object)
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
        run.arg(&program).arg(SMALL).arg("0").arg(&image).arg(level);
        tool::run(&mut run)?;
        check_image(&image)?;
    }
    Ok(Outcome::Note(format!("the C example on {}", levels.join(" and "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_of_the_op_matrix_is_counted() {
        let mut matrix = Matrix::default();
        matrix.read("no_such_kernel: 0 of 0 cases in 0.0 s, seed 0x1");
        assert!(matrix.note().is_err());
        matrix.read("linear: 120 of 2232 cases in 9.3 s, seed 0x1");
        assert!(matrix.note().is_err(), "on no level");
        matrix.read("linear: scalar/1: at most 40% of what is allowed (int8)");
        matrix.read("linear: avx2+packed/3: at most 40% of what is allowed (int8)");
        matrix.read("swiglu: 7 of 7 cases in 0.3 s, seed 0x1");
        matrix.read("swiglu: avx2/1: at most 40% of what is allowed (int8)");
        assert_eq!(matrix.note().expect("some ran"), "127 of 2239 cases of 2 kernels on avx2 and scalar");
    }
}
