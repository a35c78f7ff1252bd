//! Rules for what the manifests say: arrows between crates and files, the oldest compiler, and crates without unit tests.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::circles;
use crate::error::Error;
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

/// Kinds of targets whose files must not depend on each other in a circle.
const CODE: [&str; 5] = ["lib", "rlib", "cdylib", "staticlib", "bin"];

/// The violations in the workspace's manifests and in what they lead to.
pub(crate) fn findings(project: &Project) -> Result<Vec<String>, Error> {
    let text = tool::output(&mut project.cargo(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| Error::Form { what: format!("cargo metadata: {e}") })?;
    let packages = || metadata["packages"].as_array().into_iter().flatten();
    let ours: Vec<&Value> = packages().filter(|package| package["source"].is_null()).collect();
    let mut findings = Vec::new();
    for package in &ours {
        for target in package["targets"].as_array().into_iter().flatten() {
            if CODE.iter().any(|kind| target["kind"][0] == *kind) {
                findings.extend(circles::find(&project.root, Path::new(text_of(&target["src_path"])))?);
            }
            findings.extend(untested(target)?);
        }
        findings.extend(arrows(package, &ours));
    }
    // Each crate of ours has the workspace's.
    let promised = ours.first().and_then(|package| version(text_of(&package["rust_version"])));
    let newer = packages().filter(|package| version(text_of(&package["rust_version"])) > promised);
    findings.extend(
        newer.map(|package| {
            format!("{} {} needs Rust {}", package["name"], package["version"], package["rust_version"])
        }),
    );
    Ok(findings)
}

/// The dependencies of a package on other packages of ours that [`ARROWS`] does not allow. Tests may depend on anything.
fn arrows(package: &Value, ours: &[&Value]) -> Vec<String> {
    let name = text_of(&package["name"]);
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else { return Vec::new() };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let built = dependencies.filter(|dependency| dependency["kind"] != "dev").map(|to| text_of(&to["name"]));
    built
        .filter(|to| ours.iter().any(|package| package["name"] == **to) && !allowed.contains(to))
        .map(|to| format!("{name} must not depend on {to}"))
        .collect()
}

/// Finds unit tests that would never run: a target that says `test = false` compiles once, and not once more for tests.
fn untested(target: &Value) -> Result<Option<String>, Error> {
    let source = Path::new(text_of(&target["src_path"]));
    let is_built = ["example", "bench", "custom-build"].iter().all(|kind| target["kind"][0] != *kind);
    if target["test"] == true || !is_built {
        return Ok(None);
    }
    let tests = tests_below(source.parent().unwrap_or(source))?;
    Ok(tests.then(|| format!("{} has `test = false` in its manifest, and unit tests", source.display())))
}

/// Returns whether a folder of sources has unit tests; those of integration tests are none.
fn tests_below(folder: &Path) -> Result<bool, Error> {
    for entry in fs::read_dir(folder).map_err(Error::file(folder))? {
        let path = entry.map_err(Error::file(folder))?.path();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let found = match path.is_dir() {
            true => !path.ends_with("tests") && !path.ends_with("target") && tests_below(&path)?,
            false => is_rust && fs::read_to_string(&path).map_err(Error::file(&path))?.contains("#[cfg(test)]"),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The three numbers of a version, of which the last may be left out; `None`, which is below all, where there is none.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        assert!(version("1.100") > version("1.89") && version("1.89.1") > version("1.89"));
        assert_eq!(version("1.89.0"), version("1.89"));
        assert!(version("") < version("1.0"));
    }
}
