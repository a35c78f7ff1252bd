//! The project's own rules, which no compiler checks.

use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::source::{code, words};
use crate::tool::{self, Project};
use crate::unsafe_rooms::Counts;
use crate::workspace;

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
    let mut findings = workspace::findings(project)?;
    let (mut files, mut counts) = (0, Counts::default());
    for name in list.split_terminator('\0') {
        // Deleted files are listed until the deletion is staged; binary files hold no rules to break.
        let Some(text) = fs::read(project.root.join(name)).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            continue;
        };
        files += 1;
        findings.extend(check(name, &text, &mut counts));
    }
    findings.extend(counts.findings());
    findings.iter().for_each(|finding| println!("{finding}"));
    match findings.len() {
        0 => Ok(Outcome::Note(format!("{files} files"))),
        count => Err(Error::Findings(count)),
    }
}

/// The violations in one file.
fn check(name: &str, text: &str, counts: &mut Counts) -> Vec<String> {
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
    if rust {
        let lines = counts.add(name, text).into_iter();
        findings.extend(lines.map(|at| format!("{name}:{at}: unsafe outside of its rooms, see CONTRIBUTING.md")));
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

/// Numbers of the lines that use std or alloc outside of comments and tests, which end a file.
fn std_in_core(text: &str) -> impl Iterator<Item = usize> {
    let mut last = "";
    let mut tests = move |line| std::mem::replace(&mut last, line) == "#[cfg(test)]" && line.starts_with("mod ");
    code(text).take_while(move |(_, line)| !tests(line)).filter(|(_, line)| has_std(line)).map(|(at, _)| at)
}

fn has_std(line: &str) -> bool {
    ["std::", "alloc::"].iter().any(|root| words(line, root).next().is_some())
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
        let found = |name, text: &str| check(name, text, &mut Counts::default()).len();
        let home = MACHINE_PATHS[2];
        assert_eq!(found("a.md", &format!("see `{home}me/x`, not https://example.org{home}")), 1);
        assert_eq!(found("a.rs", &format!("fn f() {{ {}) }}", UNFINISHED[0].0)), 1);
        assert_eq!(found("a.md", UNFINISHED[0].0), 0);
    }
}
