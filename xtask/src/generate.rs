//! Generated files, each with its own generator.

use crate::cargo;
use crate::cuda;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::shaders;
use crate::tool::{self, Project};

/// Examples that write generated files: of `tests/bare` and of `capi`.
const GENERATORS: &[&str] = &["generate", "header"];

/// Writes all generated files.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    shaders::write(project)?;
    run(project, &[])?;
    cuda::write(project)
}

/// Compares all generated files with what their generators would write.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    run(project, &["--check"])?;
    shaders::check(project)
}

/// Runs the generators; with `--check` they compare instead of writing.
fn run(project: &Project, args: &[&str]) -> Result<(), Error> {
    cargo::build(project)?;
    let examples = tool::target_folder()?.join("debug/examples");
    GENERATORS.iter().try_for_each(|name| tool::run(project.command(examples.join(name)).args(args)))
}
