//! Dependencies between files: checks that they have no cycles, and that core's modules form layers.
//!
//! A file depends on another if one of its paths, in a `use` or in the code, leads there. A `pub use` does not count as
//! a dependency; whoever uses the re-export depends on the file behind it. Tests may depend on anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The modules of core and the modules that each may use, as listed in ARCHITECTURE.md.
const ROOMS: &[(&str, &[&str])] = &[
    ("checked", &[]),
    ("tensor", &[]),
    ("built", &["tensor"]),
    ("gguf", &["checked", "tensor"]),
    ("ops", &["built", "tensor"]),
    ("backend", &["ops", "tensor"]),
    ("cpu", &["backend", "built", "checked", "ops", "tensor"]),
    ("models", &["backend", "gguf", "ops", "tensor"]),
    ("sampling", &["backend", "gguf", "models", "ops", "tensor"]),
    ("self_test", &["backend", "ops", "tensor"]),
    ("room", &[]),
    ("pixels", &["sampling"]),
    ("error", &["backend", "cpu", "gguf", "models", "room", "sampling"]),
];

/// A crate's files by their module's path, such as `ops::linear`; the root's is empty.
type Modules = BTreeMap<String, File>;

#[derive(Default)]
struct File {
    name: String,
    /// Paths in `use` items and in the code, from the crate's root.
    paths: BTreeSet<Vec<String>>,
    /// The names that it re-exports, and their targets.
    reexports: BTreeMap<String, Vec<String>>,
}

/// Lists the violations in a crate, one line each.
pub(crate) fn find(root: &Path, src: &Path) -> Result<Vec<String>, Error> {
    let mut modules = Modules::new();
    read(root, src, &[], &mut modules)?;
    let needs: BTreeMap<&str, BTreeSet<&str>> = modules
        .iter()
        .map(|(module, file)| {
            let targets = file.paths.iter().filter_map(|path| resolve(&modules, path, 0));
            (module.as_str(), targets.filter(|target| target != module && !target.is_empty()).collect())
        })
        .collect();
    let mut findings = Vec::new();
    for circle in circles(&needs) {
        let names: Vec<&str> = circle.iter().map(|module| modules[*module].name.as_str()).collect();
        findings.push(format!("these files need each other: {}", names.join(", ")));
    }
    if src.starts_with(root.join("core")) {
        let upward = needs.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
        // The root only shows what the rooms have.
        let upward = upward.filter(|(from, to)| !from.is_empty() && !may_need(room(from), room(to)));
        findings.extend(upward.map(|(from, to)| format!("{} must not need {}", modules[from].name, modules[to].name)));
    }
    Ok(findings)
}

/// The top-level module of a module of core.
fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn may_need(from: &str, to: &str) -> bool {
    from == to || ROOMS.iter().any(|(room, allowed)| *room == from && allowed.contains(&to))
}

/// Reads the file of a module and those below it.
fn read(root: &Path, file: &Path, module: &[String], modules: &mut Modules) -> Result<(), Error> {
    let text = fs::read_to_string(file).map_err(Error::file(file))?;
    let text = without_tests(&text);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_root = module.is_empty() || stem == "mod";
    let folder = file.parent().unwrap_or(Path::new(""));
    let folder = if is_root { folder.to_owned() } else { folder.join(&*stem) };
    let mut entry = File { name: file.strip_prefix(root).unwrap_or(file).display().to_string(), ..File::default() };
    let mut children = Vec::new();
    for item in text.split_inclusive(['{', ';', '}']).map(str::trim) {
        if let Some(name) = child(item) {
            children.push(format!("{name}::"));
            let candidates: [PathBuf; 2] = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
            if let Some(path) = candidates.iter().find(|path| path.exists()) {
                let below: Vec<String> = module.iter().cloned().chain([name.to_owned()]).collect();
                read(root, path, &below, modules)?;
            }
        }
    }
    for (public, tree) in uses(&text) {
        for path in expand(&tree) {
            let Some(full) = from_root(&path, module) else { continue };
            if public {
                entry.reexports.insert(full.last().cloned().unwrap_or_default(), full);
            } else {
                entry.paths.insert(full);
            }
        }
    }
    let starts = ["crate::", "super::"].into_iter().chain(children.iter().map(String::as_str));
    entry.paths.extend(starts.flat_map(|start| inline(&text, start)).filter_map(|path| from_root(&path, module)));
    modules.insert(module.join("::"), entry);
    Ok(())
}

/// The module's code without comments and without tests; `#[cfg(test)]` comes last in a file.
fn without_tests(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    // A visibility needs nothing of the module that it names.
    lines.collect::<Vec<_>>().join("\n").replace("(in crate::", "(in ")
}

/// The name in `mod NAME;`, with or without a visibility.
fn child(item: &str) -> Option<&str> {
    let item = item.strip_suffix(';')?;
    let (before, name) = item.rsplit_once("mod ")?;
    let alone = before.is_empty() || before.ends_with(['\n', ' ', ')', ']']);
    (alone && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// Every `use` item: whether it is public, and its tree.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        if !line.is_empty() && !line.starts_with("pub") {
            continue;
        }
        if let Some(end) = text[at..].find(';') {
            let tree = text[at + 4..at + end].split_whitespace().collect::<Vec<_>>().join(" ");
            found.push((line.starts_with("pub"), tree));
        }
    }
    found
}

/// The paths of a tree of `use`.
fn expand(tree: &str) -> Vec<String> {
    let Some(open) = tree.find('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().trim().to_owned()];
    };
    let (head, inner) = (&tree[..open], tree[open + 1..].trim_end().trim_end_matches('}'));
    let mut depth = 0;
    let parts = inner.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts: Vec<&str> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.iter().flat_map(|part| expand(part)).map(|part| format!("{head}{part}")).collect()
}

/// Paths in the code that start like this; `use` trees are read separately.
fn inline(text: &str, start: &str) -> Vec<String> {
    let part = |c: &char| c.is_alphanumeric() || *c == '_' || *c == ':';
    let begins = move |at: usize| !text[..at].chars().next_back().is_some_and(|c| part(&c));
    let found = text.match_indices(start).filter(|(at, _)| begins(*at));
    let paths = found.map(|(at, _)| text[at..].chars().take_while(part).collect::<String>());
    paths.filter(|path| !path.ends_with("::")).collect()
}

/// A path's segments from the crate's root; `None` for a path of another crate.
fn from_root(path: &str, module: &[String]) -> Option<Vec<String>> {
    let mut base: Vec<String> = module.to_vec();
    let mut segments = path.split("::").map(str::trim).filter(|s| !s.is_empty()).peekable();
    match segments.peek().copied()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while segments.next_if_eq(&"super").is_some() {
                base.pop();
            }
            base.extend(segments.filter(|s| *s != "self").map(str::to_owned));
            return Some(base);
        }
        // A child's name in a `use`; another crate's resolves to nothing.
        first => {
            base.push(first.to_owned());
        }
    }
    segments.next();
    base.extend(segments.filter(|s| *s != "self").map(str::to_owned));
    Some(base)
}

/// The module that a path leads to.
fn resolve<'m>(modules: &'m Modules, path: &[String], followed: usize) -> Option<&'m str> {
    let longest = (0..=path.len()).rev().find(|&n| modules.contains_key(&path[..n].join("::")))?;
    let (module, file) = modules.get_key_value(&path[..longest].join("::"))?;
    let next = path.get(longest).and_then(|name| file.reexports.get(name)).filter(|_| followed < 8);
    match next {
        Some(target) if target != path => {
            let rest = [target.as_slice(), &path[longest + 1..]].concat();
            resolve(modules, &rest, followed + 1)
        }
        _ => Some(module),
    }
}

/// Groups of modules that depend on each other, directly or indirectly.
fn circles<'m>(needs: &BTreeMap<&'m str, BTreeSet<&'m str>>) -> Vec<BTreeSet<&'m str>> {
    let reach = |from: &'m str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(module) = left.pop() {
            let next = needs.get(module).into_iter().flatten();
            left.extend(next.copied().filter(|next| seen.insert(*next)));
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = needs.keys().map(|module| (*module, reach(module))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (module, seen) in &reached {
        let circle: BTreeSet<&str> = seen.iter().copied().filter(|other| reached[other].contains(module)).collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_use_become_paths() {
        assert_eq!(
            expand("crate::a::{self, b::{C, D}, E as F}"),
            ["crate::a::self", "crate::a::b::C", "crate::a::b::D", "crate::a::E"]
        );
        let module = ["a".to_owned(), "b".to_owned()];
        assert_eq!(from_root("super::c::D", &module), Some(vec!["a".into(), "c".into(), "D".into()]));
        assert_eq!(from_root("crate::a::self", &module), Some(vec!["a".into()]));
    }

    #[test]
    fn a_circle_is_found_once() {
        let needs = BTreeMap::from([
            ("a", BTreeSet::from(["b"])),
            ("b", BTreeSet::from(["c"])),
            ("c", BTreeSet::from(["a"])),
            ("d", BTreeSet::from(["a"])),
        ]);
        assert_eq!(circles(&needs), [BTreeSet::from(["a", "b", "c"])]);
    }
}
