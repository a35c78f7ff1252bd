//! Runs all checks in sequence.

use crate::error::Error;
use crate::outcome::{Outcome, Report};
use crate::tool::Project;
use crate::{aarch64, bare, capi, cargo, cuda, deny, fuzz, generate, gpu_kit, lint, loops, setup, testing};

/// A check.
pub(crate) struct Step {
    /// Its subcommand.
    pub(crate) name: &'static str,
    /// A description of the check.
    title: &'static str,
    pub(crate) run: fn(&Project) -> Result<Outcome, Error>,
}

/// The checks in order, cheap ones first.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", title: "formatting", run: cargo::fmt },
    Step { name: "lint", title: "the project's own rules", run: lint::run },
    Step { name: "deny", title: "licences, sources, versions and advisories of dependencies", run: deny::run },
    Step { name: "clippy", title: "clippy on all targets", run: cargo::clippy },
    Step { name: "test", title: "tests of the workspace", run: cargo::test },
    Step { name: "matrix", title: "cooperative matrices on Debian testing's Vulkan", run: testing::run },
    Step { name: "generate", title: "generated files are up to date", run: generate::check },
    Step { name: "cuda", title: "CUDA kernels are what their sources give, without spills", run: cuda::check },
    Step { name: "gpu-day", title: "a day with a GPU, rehearsed without one", run: gpu_kit::rehearse },
    Step { name: "loops", title: "cycles of the inner loops by model", run: loops::check },
    Step { name: "doc", title: "documentation", run: cargo::doc },
    Step { name: "capi", title: "C and C++ programs", run: capi::check },
    Step { name: "aarch64", title: "the op matrix on aarch64, emulated", run: aarch64::run },
    Step { name: "bare", title: "core and a program on bare machines", run: bare::run },
    Step { name: "fuzz", title: "each fuzz target for half a minute", run: fuzz::check },
];

/// Installs what the checks need, runs every check that is not left out, even after a failure, and prints a summary.
pub(crate) fn run(project: &Project) -> Result<(), Error> {
    let mut report = Report::new();
    setup::run(project)?;
    for (step, i) in STEPS.iter().zip(1..) {
        println!("\n== {i}/{} {}: {}", STEPS.len(), step.name, step.title);
        report.add(step.name, || (!project.leaves_out(step.name)).then(|| (step.run)(project)));
    }
    report.finish()
}
