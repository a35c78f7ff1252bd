//! Python environments under `target/`, each with the packages that one check needs.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::tool::{self, Project};

/// A Python with these packages of PyPI, installed where they are not yet.
pub(crate) fn with(project: &Project, name: &str, packages: &[&str]) -> Result<PathBuf, Error> {
    let folder = project.root.join("target").join(name);
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    tool::run(project.command("python3").args(["-m", "venv"]).arg(&folder))?;
    tool::run(project.command(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    fs::write(&done, wanted).map_err(Error::file(&done))?;
    Ok(python)
}
