//! The dated record of long runs.

use std::fs;

use super::run::Run;
use crate::error::Error;
use crate::tool::{self, Project};

const PATH: &str = "benches/record/fuzzing.md";

/// Adds a row for each target to the end of the record, which is a table.
pub(super) fn add(project: &Project, runs: &[Run]) -> Result<(), Error> {
    let path = project.root.join(PATH);
    let date = tool::output(project.command("date").args(["-u", "+%F"]))?;
    let commit = tool::output(project.command("git").args(["rev-parse", "--short=7", "HEAD"]))?;
    let mut text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    for run in runs {
        let findings =
            if run.findings.is_empty() { "none".to_owned() } else { format!("{}, not mended", run.findings.len()) };
        text += &format!(
            "| {} | {} | {} | {:.2} | {} | {} | {findings} |\n",
            date.trim(),
            commit.trim(),
            run.target,
            run.processor / 3600.0,
            run.executions,
            run.edges
        );
    }
    fs::write(&path, text).map_err(Error::file(&path))
}
