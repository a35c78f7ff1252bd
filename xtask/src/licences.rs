//! Checks licences and sources of dependencies against deny.toml: with cargo-deny if it is installed, otherwise with
//! the few lines below, which run the same two checks on `cargo metadata`.

use std::fs;

use serde_json::Value;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};

pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    if tool::exists("cargo-deny") {
        tool::run(project.command("cargo-deny").args(["check", "licenses", "bans", "sources"]))?;
        return Ok(Outcome::Note("by cargo-deny".into()));
    }
    let path = project.root.join("deny.toml");
    let list = fs::read_to_string(&path).map_err(Error::file(path))?;
    let allowed = allowed(&list)?;
    let text = tool::output(&mut project.cargo(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| Error::Form { what: format!("cargo metadata: {e}") })?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let mut findings = 0;
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        let official = package["source"].as_str().is_none_or(|source| source.ends_with("/crates.io-index"));
        for (ok, what) in [(permits(licence, &allowed), licence), (official, "not from crates.io")] {
            if !ok {
                println!("{} {}: {what:?}", package["name"], package["version"]);
                findings += 1;
            }
        }
    }
    match findings {
        0 => Ok(Outcome::Note(format!("{} packages", packages.len()))),
        count => Err(Error::Findings(count)),
    }
}

/// The list `allow = [...]` of a deny.toml.
fn allowed(toml: &str) -> Result<Vec<&str>, Error> {
    let list = toml.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.ok_or_else(|| Error::Form { what: "deny.toml has no list of allowed licences".into() })?;
    Ok(list.split('"').skip(1).step_by(2).collect())
}

/// Returns whether an SPDX expression can be met with the allowed licences. `/` is how old manifests wrote `OR`.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

/// `all OR all ...`
fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut ok = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        ok |= all(words, allowed);
    }
    ok
}

/// `one AND one ...`
fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut ok = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        ok &= one(words, allowed);
    }
    ok
}

/// A licence, one with an exception, or an expression in brackets.
fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let ok = any(words, allowed);
        return words.next_if_eq(&")").is_some() && ok;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(&format!("{word} WITH {exception}").as_str()),
        None => allowed.contains(&word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_allowed_licences() {
        let allowed = ["MIT", "Unicode-3.0"];
        for yes in ["MIT", "MIT/Apache-2.0", "(GPL-3.0 OR MIT) AND Unicode-3.0", "A WITH B OR MIT"] {
            assert!(permits(yes, &allowed), "{yes}");
        }
        for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH B", "(MIT", "MIT MIT", "MIT)"] {
            assert!(!permits(no, &allowed), "{no}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        assert_eq!(allowed("[licenses]\nallow = [\n  \"MIT\", # why\n  \"Zlib\",\n]\n").unwrap(), ["MIT", "Zlib"]);
    }
}
