//! The developer's loop: cheap checks, and the tests for the changed files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::outcome::{Outcome, Report};
use crate::tool::{self, Project};
use crate::{cargo, deny, lint, python};

/// Path prefixes, and the tests for the files below them.
struct Area {
    paths: &'static [&'static str],
    /// Test programs; `lib`, `denoir` and `xtask` are the unit tests of the libraries and of these programs.
    tests: &'static [&'static str],
    /// Rows of the op matrix, if it is among the tests.
    rows: &'static [&'static str],
}

const CPU_ROWS: &[&str] = if cfg!(target_arch = "x86_64") {
    &["scalar", "avx"]
} else if cfg!(target_arch = "aarch64") {
    &["scalar", "neon"]
} else {
    &["scalar"]
};

/// A path belongs to the first area with a matching prefix.
const AREAS: &[Area] = &[
    // The op matrix knows the scalar kernels' bytes, as `golden` does, which takes longer to build.
    Area {
        paths: &["core/src/cpu/", "core/src/ops/"],
        tests: &["op_matrix", "op_check", "packed_linear", "not_finite"],
        rows: CPU_ROWS,
    },
    Area {
        paths: &["core/src/gguf", "core/src/checked.rs"],
        tests: &["hostile_gguf", "hostile_model", "gguf_package", "golden"],
        rows: &[],
    },
    Area {
        paths: &["core/src/models/qwen3/", "core/src/models/t2i/"],
        tests: &["text", "allocation", "golden"],
        rows: &[],
    },
    Area { paths: &["core/"], tests: &["golden", "sampling", "allocation", "stack"], rows: &[] },
    Area { paths: &["vulkan/", "gpu/"], tests: &["lib", "op_matrix"], rows: &["vulkan"] },
    Area { paths: &["cuda/"], tests: &["lib", "op_matrix"], rows: &["cuda"] },
    Area {
        paths: &["convert/", "fixtures/checkpoints"],
        tests: &["lib", "convert_layouts", "convert_memory", "gguf_package", "hostile_checkpoint", "bombs"],
        rows: &[],
    },
    Area {
        paths: &["runtime/"],
        tests: &[
            "lib",
            "abi",
            "allocation",
            "changed_files",
            "cli_generate",
            "cli_memory",
            "loading",
            "pool",
            "pool_model",
            "stack",
            "text",
        ],
        rows: &[],
    },
    Area { paths: &["capi/"], tests: &["abi", "callbacks", "changed_files", "out_of_memory", "soak"], rows: &[] },
    Area { paths: &["golden/"], tests: &["lib", "cli_models", "op_goldens", "text"], rows: &[] },
    Area {
        paths: &["cli/"],
        tests: &[
            "denoir",
            "cli_errors",
            "cli_generate",
            "cli_hostile",
            "cli_models",
            "cli_noise",
            "cli_outputs",
            "cli_text",
        ],
        rows: &[],
    },
    Area { paths: &["fuzz/"], tests: &["corpus"], rows: &[] },
    Area { paths: &["tests/bare/"], tests: &["golden"], rows: &[] },
    Area { paths: &["tests/src/op_matrix"], tests: &["op_matrix", "op_check"], rows: CPU_ROWS },
    Area { paths: &["tests/"], tests: &["sampling", "text", "op_check", "convert_layouts"], rows: &[] },
    Area { paths: &["fixtures/"], tests: &["op_goldens", "sampling", "golden", "text", "cli_generate"], rows: &[] },
    Area { paths: &["xtask/"], tests: &["xtask"], rows: &[] },
    Area { paths: &["Cargo."], tests: &["golden", "abi", "cli_generate"], rows: &[] },
];

/// Test programs that take minutes: never run here.
const SLOW: &[&str] = &["cuda", "vulkan"];
/// Cases per kernel in the op matrix.
const CASES: &str = "24";
/// Folders of test programs.
const FOLDERS: &[&str] = &["tests/tests", "tests/bare/tests", "capi/tests", "cli/tests", "runtime/tests", "fuzz/tests"];

/// The checks for a set of changes.
#[derive(Default)]
struct Plan {
    tests: BTreeSet<String>,
    rows: BTreeSet<&'static str>,
    /// Whether anything that is compiled changed.
    code: bool,
}

impl Plan {
    fn of<'p>(changed: impl IntoIterator<Item = &'p str>) -> Plan {
        let mut plan = Plan::default();
        for path in changed.into_iter().filter(|path| !path.ends_with(".md")) {
            plan.code |= [".rs", ".toml", ".lock", ".spv", ".cu"].iter().any(|end| path.ends_with(end));
            match path.rsplit_once('/') {
                Some((folder, name)) if FOLDERS.contains(&folder) => {
                    plan.tests.insert(name.trim_end_matches(".rs").to_owned());
                }
                _ => {
                    let area = AREAS.iter().find(|area| area.paths.iter().any(|start| path.starts_with(start)));
                    plan.tests.extend(area.iter().flat_map(|area| area.tests).map(|test| (*test).to_owned()));
                    plan.rows.extend(area.iter().flat_map(|area| area.rows));
                }
            }
        }
        plan.tests.retain(|test| !SLOW.contains(&test.as_str()));
        plan
    }
}

/// Checks the changes since the branch began, or since a revision, including uncommitted ones.
pub(crate) fn run(project: &Project, since: Option<&str>) -> Result<(), Error> {
    let base = base(project, since)?;
    let changed = changed(project, &base)?;
    let (mut plan, all) = (Plan::of(changed.iter().map(String::as_str)), programs(&project.root)?);
    // A test that was deleted is a change too.
    plan.tests.retain(|test| all.contains(test));
    match changed.len() {
        0 => println!("quick: nothing changed since {base}: the cheap checks alone"),
        files => println!("quick: {files} files changed since {base}"),
    }
    let mut report = Report::new();
    report.add("fmt", || Some(cargo::fmt(project)));
    report.add("lint", || Some(lint::run(project)));
    report.add("deny", || deny::is_ready(project).then(|| deny::run(project)));
    if plan.code {
        report.add("clippy", || Some(cargo::clippy_all(project)));
    }
    if !plan.tests.is_empty() {
        report.add("test", || Some(test(project, &plan)));
    }
    let result = report.finish();
    println!("not run: {}", left(all, &plan).join(", "));
    println!("nor the other checks of `cargo xtask ci`");
    result
}

/// Runs the tests of a plan.
fn test(project: &Project, plan: &Plan) -> Result<Outcome, Error> {
    let mut command = project.cargo(["test", "--workspace", "--no-fail-fast"]);
    for test in &plan.tests {
        match test.as_str() {
            "lib" => command.arg("--lib"),
            "denoir" | "xtask" => command.args(["--bin", test]),
            _ => command.args(["--test", test]),
        };
    }
    if !plan.rows.is_empty() {
        let rows: Vec<&str> = plan.rows.iter().copied().collect();
        command.env("DENOIR_ROW", rows.join(","));
    }
    if !python::is_named() && python::GGUF.is_ready(project) {
        command.env("DENOIR_PYTHON", python::GGUF.make(project)?);
    }
    cargo::counted(command.env("DENOIR_CASES", CASES).args(["--", "--quiet"]))
}

/// The tests that a plan leaves to `cargo xtask test`.
fn left(all: BTreeSet<String>, plan: &Plan) -> Vec<String> {
    let mut left: Vec<String> = all.into_iter().filter(|test| !plan.tests.contains(test)).collect();
    if plan.tests.contains("op_matrix") {
        let rows: Vec<&str> = plan.rows.iter().copied().collect();
        let rows = if rows.is_empty() { String::new() } else { format!(" and rows other than {}", rows.join(", ")) };
        left.push(format!("op_matrix beyond {CASES} cases a kernel{rows}"));
    }
    left
}

/// All test programs, by the names that [`Area`] has.
fn programs(root: &Path) -> Result<BTreeSet<String>, Error> {
    let mut names: BTreeSet<String> = ["lib", "denoir", "xtask"].map(str::to_owned).into();
    for folder in FOLDERS.iter().map(|folder| root.join(folder)) {
        for entry in fs::read_dir(&folder).map_err(Error::file(&folder))? {
            let name = entry.map_err(Error::file(&folder))?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".rs").map(str::to_owned));
        }
    }
    Ok(names)
}

/// The start of the branch: the last commit that it shares with its upstream or with the main branch.
fn base(project: &Project, since: Option<&str>) -> Result<String, Error> {
    let git = |args: &[&str]| {
        let output = project.command("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    if let Some(since) = since {
        let commit = git(&["rev-parse", "--verify", "--short", &format!("{since}^{{commit}}")]);
        return commit.ok_or_else(|| Error::Usage(format!("--since: git knows no revision {since}")));
    }
    let shared =
        ["@{upstream}", "origin/HEAD", "main", "HEAD"].iter().find_map(|with| git(&["merge-base", "HEAD", with]));
    let shared = shared.and_then(|commit| git(&["rev-parse", "--short", &commit]));
    shared.ok_or_else(|| Error::Form { what: "git has no commit here".into() })
}

/// Changed files, committed or not, and new ones.
fn changed(project: &Project, base: &str) -> Result<BTreeSet<String>, Error> {
    let mut git = project.command("git");
    let old = tool::output(git.args(["diff", "--name-only", "--no-renames", "-z", base, "--"]))?;
    let new = tool::output(project.command("git").args(["ls-files", "-z", "--others", "--exclude-standard"]))?;
    Ok(old.split_terminator('\0').chain(new.split_terminator('\0')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_and_test_of_the_table_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let programs = programs(root).unwrap();
        for area in AREAS {
            for test in area.tests {
                assert!(programs.contains(*test), "{test}");
            }
            for path in area.paths {
                let (folder, start) = path.rsplit_once('/').unwrap_or(("", path));
                let mut names = root.join(folder).read_dir().expect(path).flatten();
                assert!(names.any(|entry| entry.file_name().to_string_lossy().starts_with(start)), "{path}");
            }
        }
    }

    #[test]
    fn changes_choose_tests() {
        let tests = |paths: &[&str]| Plan::of(paths.iter().copied()).tests.into_iter().collect::<Vec<_>>();
        assert_eq!(tests(&["README.md", "cuda/README.md"]), [""; 0]);
        assert_eq!(tests(&["capi/src/lib.rs"]), ["abi", "callbacks", "changed_files", "out_of_memory", "soak"]);
        assert_eq!(tests(&["capi/tests/soak.rs"]), ["soak"]);
        assert_eq!(tests(&["core/src/cpu/swiglu.rs"]), ["not_finite", "op_check", "op_matrix", "packed_linear"]);
        assert_eq!(tests(&["tests/tests/vulkan.rs", "tests/tests/stack.rs"]), ["stack"]);
        assert_eq!(Plan::of(["cuda/src/lib.rs"]).rows.into_iter().collect::<Vec<_>>(), ["cuda"]);
    }
}
