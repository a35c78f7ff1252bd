//! Generated files, each by the generator that lies beside it.

use crate::ci::Outcome;
use crate::cuda;
use crate::error::Error;
use crate::shaders;
use crate::tool::{self, Project};

/// Cargo's arguments that run each generator; with `--check` after them it compares instead of writing.
const GENERATORS: &[&[&str]] = &[
    &["run", "--quiet", "--package", "denoir-bare", "--example", "generate", "--"],
    &["run", "--quiet", "--package", "denoir-capi", "--example", "header", "--"],
];

/// Writes all generated files.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    shaders::write(project)?;
    GENERATORS.iter().try_for_each(|generator| tool::run(&mut project.cargo(*generator)))?;
    cuda::write(project)
}

/// Compares all generated files with what would be written.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    for generator in GENERATORS {
        tool::run(project.cargo(*generator).arg("--check"))?;
    }
    shaders::check(project)
}
