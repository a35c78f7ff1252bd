//! Runs the comparison with other engines, `benches/peers`, after preparing its Python environment and programs.

use crate::error::Error;
use crate::tool::{self, Project};

/// Sets up what is missing and passes `args` on.
pub(crate) fn run(project: &Project, args: &[String]) -> Result<(), Error> {
    let folder = project.root.join("target/peers");
    let python = folder.join("venv/bin/python");
    if !python.exists() {
        tool::run(project.command("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
    }
    tool::run(project.command(&python).args(["-m", "pip", "install", "-q", "-r", "benches/peers/requirements.txt"]))?;
    tool::run(&mut project.cargo(["build", "--release", "-p", "denoir-benches"]))?;
    tool::run(project.command(&python).arg("benches/peers/run.py").args(args))
}
