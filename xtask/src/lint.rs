//! The project's own rules, which no compiler checks.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::circles;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};

/// Allowed dependencies between crates, as drawn in ARCHITECTURE.md. Unlisted crates may depend on anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("denoir-core", &[]),
    ("denoir-gpu", &["denoir-core"]),
    ("denoir-vulkan", &["denoir-core", "denoir-gpu"]),
    ("denoir-cuda", &["denoir-core", "denoir-gpu"]),
    ("denoir-convert", &["denoir-core"]),
    ("denoir", &["denoir-core", "denoir-vulkan", "denoir-cuda"]),
    ("denoir-golden", &["denoir", "denoir-convert"]),
    ("denoir-cli", &["denoir", "denoir-convert", "denoir-core", "denoir-golden"]),
    ("denoir-capi", &["denoir", "denoir-core"]),
    ("xtask", &[]),
];

/// Places where unsafe code may be; CONTRIBUTING.md gives the reasons.
const UNSAFE_ROOMS: &[&str] = &[
    "core/src/cpu/",
    "core/src/backend/",
    "core/src/room.rs",
    "runtime/src/file.rs",
    "runtime/src/network.rs",
    "runtime/src/pool.rs",
    "convert/src/lib.rs",
    "vulkan/src/",
    "cuda/src/",
    "capi/",
    "tests/",
    "benches/",
];

/// Folders that exist only on one person's machine. Each is written in two parts, because this file is checked too.
const MACHINE_PATHS: &[&str] = &[
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "Users/"),
    concat!("C:\\", "Users\\"),
    concat!("../", "shared/"),
];

/// Text that no Rust file may contain, and why.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("#[", "ignore"), "an ignored test: skip it loudly at run time, see CONTRIBUTING.md"),
];

/// Checks all rules and prints the violations.
pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    let list = tool::output(project.command("git").args(["ls-files", "-z", "-co", "--exclude-standard"]))?;
    let mut findings = arrows(project)?;
    let mut files = 0;
    for name in list.split_terminator('\0') {
        // Deleted files are listed until the deletion is staged; binary files hold no rules to break.
        let Some(text) = fs::read(project.root.join(name)).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            continue;
        };
        files += 1;
        findings.extend(check(name, &text));
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    match findings.len() {
        0 => Ok(Outcome::Note(format!("{files} files"))),
        count => Err(Error::Findings(count)),
    }
}

/// Dependencies between the workspace's crates that [`ARROWS`] does not allow, and those between files that `circles`
/// does not. Tests may depend on anything.
fn arrows(project: &Project) -> Result<Vec<String>, Error> {
    let text = tool::output(&mut project.cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| Error::Form { what: format!("cargo metadata: {e}") })?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let libraries = package["targets"].as_array().into_iter().flatten();
        for target in libraries.filter(|target| {
            ["lib", "rlib", "cdylib", "staticlib", "bin"].iter().any(|kind| target["kind"][0] == *kind)
        }) {
            findings.extend(circles::find(&project.root, Path::new(target["src_path"].as_str().unwrap_or_default()))?);
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let ours = packages.iter().any(|package| package["name"] == to);
            if ours && dependency["kind"] != "dev" && !allowed.contains(&to) {
                findings.push(format!("{name} must not depend on {to}"));
            }
        }
    }
    Ok(findings)
}

/// The violations in one file.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let rust = Path::new(name).extension().is_some_and(|extension| extension == "rs");
    for (line, at) in text.lines().zip(1..) {
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(format!("{name}:{at}: a path of one machine: {path}"));
        }
        for (what, why) in UNFINISHED.iter().filter(|(what, _)| rust && line.contains(what)) {
            findings.push(format!("{name}:{at}: {what}: {why}"));
        }
    }
    if rust && !UNSAFE_ROOMS.iter().any(|room| name.starts_with(room)) {
        let lines = code(text).filter(|(_, line)| has_unsafe(line));
        findings.extend(lines.map(|(at, _)| format!("{name}:{at}: unsafe outside of its rooms, see CONTRIBUTING.md")));
    }
    if rust && name.starts_with("core/src/") && !name.ends_with("/tests.rs") {
        findings.extend(std_in_core(text).map(|at| format!("{name}:{at}: std or alloc in core")));
    }
    findings
}

/// Returns whether a line names this folder, not a longer path that ends like it.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/".contains(c))
    })
}

/// The lines that are not comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.starts_with("//"))
}

/// Numbers of the lines that use std or alloc outside of comments and tests, which end a file.
fn std_in_core(text: &str) -> impl Iterator<Item = usize> {
    let mut last = "";
    let mut tests = move |line| std::mem::replace(&mut last, line) == "#[cfg(test)]" && line.starts_with("mod ");
    code(text).take_while(move |(_, line)| !tests(line)).filter(|(_, line)| has_std(line)).map(|(at, _)| at)
}

fn has_std(line: &str) -> bool {
    ["std::", "alloc::"].iter().any(|root| words(line, root).next().is_some())
}

fn has_unsafe(line: &str) -> bool {
    let uses = ["(", " {", " fn", " impl", " trait", " extern"];
    words(line, "unsafe").any(|rest| uses.iter().any(|start| rest.starts_with(start)))
}

/// What follows each place where a word begins a line or a word of it.
fn words<'l>(line: &'l str, word: &'l str) -> impl Iterator<Item = &'l str> {
    line.match_indices(word).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        begins.then(|| &line[at + word.len()..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn std_in_core_is_found_outside_comments_and_tests() {
        let text = "use core::fmt;\n/// std::vec\nuse std::vec;\nfn f() { nostd::g() }\n#[cfg(test)]\nmod tests {\nuse std::fs;";
        assert_eq!(std_in_core(text).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn machine_paths_and_unfinished_code_are_found() {
        let home = MACHINE_PATHS[2];
        assert_eq!(check("a.md", &format!("see `{home}me/x`, not https://example.org{home}")).len(), 1);
        assert_eq!(check("a.rs", &format!("fn f() {{ {}) }}", UNFINISHED[0].0)).len(), 1);
        assert_eq!(check("a.md", UNFINISHED[0].0).len(), 0);
    }

    #[test]
    fn unsafe_code_stays_in_its_rooms() {
        let code = "// ? {\nlet x = ? { f() };\n#[?(no_mangle)]\n?_op_in()\nprint(\"? here\")".replace('?', "unsafe");
        assert_eq!(check("cli/src/main.rs", &code).len(), 2);
        assert_eq!(check("core/src/cpu/mod.rs", &code).len(), 0);
    }
}
