//! The loops that multiply, by model: compiles core for x86_64 and aarch64, finds the innermost loops of each level's
//! kernels in the listings, and compares their cycles on models of cores with `benches/record/inner-loops.md`.

mod asm;
mod mca;
mod product;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::aarch64;
use crate::bare;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::testing::Testing;
use crate::tool::{self, Project};
use mca::Core;
use product::Products;
use table::{OnCore, Row};

const TABLE: &str = "benches/record/inner-loops.md";
const INTRODUCTION: &str = "\
# Cycles of the inner loops, by model

`cargo xtask loops` compares this table with the loops as they are, and fails where cycles differ by more than 3%;
`cargo xtask loops --update` writes it. Say in the commit why a loop changed.

A row is an innermost loop that multiplies, in a kernel compiled for an instruction set: kernel, type of the weights,
and the instructions of a step that multiply. Loops with the same figures share a row. `row by row` are products of a
few activations with weights that are not packed, which wait for memory. `products` are of elements, and `stack`
counts loads and stores of the function's own memory. Each core has cycles of a step, products per cycle, and the
share of its peak, which is what the same model says of independent products on registers alone. llvm-mca knows neither
caches nor branch predictors: all loads hit the first level.

Core is compiled with the options of a release, but alone and as one unit: what ships is optimised once more as a whole
program, which moves an instruction or two of a loop. LLVM's models of Cortex-A76 and A78AE are those of an older core,
Cortex-A57. Their columns use Neoverse N1's, whose pipelines are Cortex-A76's, and Neoverse N2's, which like Cortex-A78
has two vector pipelines and three for loads. Zen 5's model is Zen 4's.
Sapphire Rapids' has no AMX: each of its products takes 100 cycles there, so only the instructions around them count.
";

/// A core's columns are named after it.
const fn core(name: &'static str, model: &'static str) -> Core {
    Core { name, model }
}

const SKYLAKE: Core = core("Skylake", "skylake");
const ALDER_LAKE: Core = core("Alder Lake", "alderlake");
const SAPPHIRE_RAPIDS: Core = core("Sapphire Rapids", "sapphirerapids");
const ZEN_2: Core = core("Zen 2", "znver2");
const ZEN_3: Core = core("Zen 3", "znver3");
const ZEN_4: Core = core("Zen 4", "znver4");
const ZEN_5: Core = core("Zen 5", "znver5");
const CORTEX_A76: Core = core("Cortex-A76", "neoverse-n1");
const CORTEX_A78AE: Core = core("Cortex-A78AE", "neoverse-n2");
const NEOVERSE_V1: Core = core("Neoverse V1", "neoverse-v1");
const NEOVERSE_V2: Core = core("Neoverse V2", "neoverse-v2");

const X86_64: &str = "x86_64";
const AARCH64: &str = "aarch64";
/// The architectures, what starts a comment in their listings, and the level that every machine has.
const ARCHITECTURES: &[(&str, &str, Option<&str>)] = &[(X86_64, "#", None), (AARCH64, "//", Some("neon"))];

/// A level of `core/src/cpu/isa.rs`.
struct Level {
    name: &'static str,
    architecture: &'static str,
    /// What LLVM must assemble although a core's model may not have it.
    features: &'static str,
    cores: &'static [Core],
}

const fn level(
    architecture: &'static str,
    name: &'static str,
    features: &'static str,
    cores: &'static [Core],
) -> Level {
    Level { name, architecture, features, cores }
}

/// Every level, and cores that have it.
const LEVELS: &[Level] = &[
    level(X86_64, "avx2", "", &[SKYLAKE, ZEN_2, ZEN_3]),
    level(X86_64, "avx2-vnni", "", &[ALDER_LAKE, ZEN_5]),
    level(X86_64, "avx512", "", &[SAPPHIRE_RAPIDS, ZEN_4]),
    level(X86_64, "avx512-vnni", "", &[SAPPHIRE_RAPIDS, ZEN_4]),
    level(X86_64, "avx512-bf16", "", &[SAPPHIRE_RAPIDS, ZEN_4]),
    level(X86_64, "amx", "", &[SAPPHIRE_RAPIDS]),
    level(AARCH64, "neon", "", &[CORTEX_A76, CORTEX_A78AE, NEOVERSE_V1, NEOVERSE_V2]),
    level(AARCH64, "neon-dot", "+dotprod", &[CORTEX_A76, CORTEX_A78AE, NEOVERSE_V1, NEOVERSE_V2]),
    level(AARCH64, "neon-i8mm", "+dotprod,+i8mm", &[NEOVERSE_V1, NEOVERSE_V2]),
    level(AARCH64, "neon-bf16", "+dotprod,+i8mm,+bf16", &[NEOVERSE_V1, NEOVERSE_V2]),
];

/// The loops of this machine's compiler.
struct Measured {
    rows: Vec<Row>,
    /// The architectures that it compiles for, and the line of the table that says what made it.
    made: Vec<(&'static str, String)>,
}

/// Compares the loops with the table.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    let measured = measure(project)?;
    let path = project.root.join(TABLE);
    let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    let (mut findings, mut notes) = (0, Vec::new());
    for (architecture, ..) in ARCHITECTURES {
        let Some((_, made_with)) = measured.made.iter().find(|(of, _)| of == architecture) else {
            notes.push(format!("{architecture} NOT compared: this compiler has no library for it"));
            continue;
        };
        let levels: Vec<&str> = of_architecture(architecture).map(|level| level.name).collect();
        let found = table::differences(&text, &measured.rows, &levels);
        found.iter().for_each(|sentence| println!("{sentence}"));
        if table::is_made_with(&text, made_with) {
            let rows = measured.rows.iter().filter(|row| levels.contains(&row.level.as_str())).count();
            notes.push(format!("{rows} loops of {architecture} compared"));
            findings += found.len();
        } else {
            notes.push(format!("{architecture} NOT compared: the table was made by others. {made_with}"));
        }
    }
    if findings == 0 {
        return Ok(Outcome::Note(notes.join("; ")));
    }
    println!("If that is meant: `cargo xtask loops --update`, and say in the commit why.");
    Err(Error::Findings(findings))
}

/// Writes the table, and prints what changed.
pub(crate) fn update(project: &Project) -> Result<(), Error> {
    let measured = measure(project)?;
    let made_with = measured.made.first().map(|(_, made_with)| made_with.as_str()).unwrap_or_default();
    if measured.made.len() < ARCHITECTURES.len() || measured.made.iter().any(|(_, of)| of != made_with) {
        return Err(Error::Form { what: "the table needs one compiler for x86_64 and aarch64".into() });
    }
    let path = project.root.join(TABLE);
    let levels: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
    if let Ok(before) = fs::read_to_string(&path) {
        table::differences(&before, &measured.rows, &levels).iter().for_each(|sentence| println!("{sentence}"));
    }
    fs::write(&path, table::write(INTRODUCTION, made_with, &measured.rows)).map_err(Error::file(&path))
}

fn of_architecture(architecture: &str) -> impl Iterator<Item = &'static Level> {
    LEVELS.iter().filter(move |level| level.architecture == architecture)
}

/// Compiles core for each architecture, and finds and models the loops.
fn measure(project: &Project) -> Result<Measured, Error> {
    let testing = Testing::get(project)?;
    let model = mca::version(project, &testing)?;
    let (mut rows, mut made) = (Vec::new(), Vec::new());
    // Each compiler is busy on one processor.
    let listings = ARCHITECTURES.iter().map(|(architecture, ..)| Listing::start(project, architecture));
    let listings = listings.collect::<Result<Vec<_>, _>>()?;
    for (listing, (architecture, comment, every)) in listings.into_iter().zip(ARCHITECTURES) {
        let Some(mut listing) = listing else { continue };
        listing.finish()?;
        let text = fs::read_to_string(&listing.path).map_err(Error::file(&listing.path))?;
        let found = asm::loops(&text, comment);
        let found: Vec<(Products, Vec<String>)> =
            found.into_iter().filter_map(|found| Some((Products::of(&found, *every)?, found.body))).collect();
        if let Some((products, _)) = found.iter().find(|(of, _)| LEVELS.iter().all(|level| level.name != of.level)) {
            let what = format!("xtask/src/loops names no core for the level {}", products.level);
            return Err(Error::Form { what });
        }
        for level in of_architecture(architecture) {
            let of_level: Vec<_> = found.iter().filter(|(products, _)| products.level == level.name).collect();
            rows.extend(model_level(project, &testing, level, &of_level, &listing.path)?);
        }
        made.push((*architecture, format!("Made with rustc {} and llvm-mca {model}.", listing.compiler)));
    }
    Ok(Measured { rows: table::unique(rows), made })
}

/// Models the loops of a level on its cores.
fn model_level(
    project: &Project,
    testing: &Testing,
    level: &Level,
    found: &[&(Products, Vec<String>)],
    listing: &Path,
) -> Result<Vec<Row>, Error> {
    let row = |(products, body): &&(Products, Vec<String>)| Row {
        level: level.name.to_owned(),
        name: products.name.clone(),
        products: products.count,
        instructions: body.len(),
        stack: product::of_stack(body),
        cores: Vec::new(),
    };
    let mut rows: Vec<Row> = found.iter().map(row).collect();
    let mut peaks: Vec<(String, Vec<String>, usize)> = Vec::new();
    for (products, _) in found {
        if peaks.iter().all(|(name, ..)| *name != products.peak_name()) {
            let (body, count) = products.peak();
            peaks.push((products.peak_name(), body, count));
        }
    }
    let bodies = found.iter().map(|(_, body)| body).chain(peaks.iter().map(|(_, body, _)| body));
    let bodies: Vec<&[String]> = bodies.map(Vec::as_slice).collect();
    for core in level.cores {
        let part = listing.with_extension(format!("{}.{}.s", level.name, core.model));
        let of = (level.architecture, level.features);
        let cycles = mca::cycles(project, (testing, core), of, &bodies, &part)?;
        for (i, (row, (products, _))) in rows.iter_mut().zip(found).enumerate() {
            let peak = peaks.iter().position(|(name, ..)| *name == products.peak_name()).unwrap_or_default();
            // Cycles that as many independent products take.
            let least = cycles[found.len() + peak] * products.instructions as f64 / peaks[peak].2 as f64;
            let (core, share) = (core.name.to_owned(), least / cycles[i]);
            row.cores.push(OnCore { core, cycles: cycles[i], share });
        }
    }
    Ok(rows)
}

/// A listing of core that is being compiled.
struct Listing {
    command: Command,
    child: Child,
    path: PathBuf,
    /// The compiler's version.
    compiler: String,
}

impl Listing {
    /// Starts to compile; `None` without a library for the architecture.
    fn start(project: &Project, architecture: &str) -> Result<Option<Listing>, Error> {
        let target = format!("{architecture}-unknown-linux-gnu");
        let (mut command, rustc) = if architecture == AARCH64 && !aarch64::is_native() {
            aarch64::compiler(project)?
        } else if bare::has_target(Path::new("rustc"), &target) {
            let mut cargo = project.cargo::<&str>([]);
            // Whoever builds for one processor only gets other loops.
            cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
            (cargo, "rustc".into())
        } else {
            return Ok(None);
        };
        let compiler = tool::output(project.command(rustc).arg("--version"))?;
        let compiler = compiler.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let folder = project.root.join("target/loops").join(architecture);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        // Cargo does not write the listing again if nothing has changed since this compiler wrote it.
        let path = folder.join(format!("core-{compiler}.s"));
        command.env("CARGO_TARGET_DIR", &folder).env_remove("CARGO_BUILD_TARGET");
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
        command.args(["rustc", "--quiet", "--locked", "--release", "--package", "denoir-core", "--lib"]);
        command.args(["--target", &target, "--", "-C", "symbol-mangling-version=v0"]);
        command.arg("--emit").arg(format!("asm={}", path.display()));
        let child = command.spawn().map_err(tool::start(&command))?;
        Ok(Some(Listing { command, child, path, compiler }))
    }

    /// Waits for it.
    fn finish(&mut self) -> Result<(), Error> {
        let status = self.child.wait().map_err(tool::start(&self.command))?;
        if status.success() { Ok(()) } else { Err(tool::failed(&self.command)) }
    }
}
