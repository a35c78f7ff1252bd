//! Cycles of loops by llvm-mca's models of cores.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::testing::Testing;
use crate::tool::{self, Project};

/// The program, of the Debian package llvm-21.
const PROGRAM: &str = "llvm-mca-21";
/// Steps of each loop: so many that its start and end hardly count.
const STEPS: u32 = 200;

/// A core, and the model that is nearest to it.
pub(super) struct Core {
    /// What a person calls it.
    pub(super) name: &'static str,
    /// What LLVM calls the core that the model is of.
    pub(super) model: &'static str,
}

/// The version of the program.
pub(super) fn version(project: &Project, testing: &Testing) -> Result<String, Error> {
    let text = tool::output(testing.command(project, PROGRAM).arg("--version"))?;
    // A line such as `Debian LLVM version 21.1.8`.
    let line = text.lines().find_map(|line| line.split_once("LLVM version "));
    line.map(|(_, version)| version.trim().to_owned()).ok_or_else(|| form("--version"))
}

/// Cycles of a step of each loop on a core, in order.
pub(super) fn cycles(
    project: &Project,
    (testing, core): (&Testing, &Core),
    (architecture, features): (&str, &str),
    loops: &[&[String]],
    listing: &Path,
) -> Result<Vec<f64>, Error> {
    let mut text = String::new();
    let comment = if architecture == "aarch64" { "//" } else { "#" };
    for (i, body) in loops.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{comment} LLVM-MCA-BEGIN {i}\n{}\n{comment} LLVM-MCA-END {i}", body.join("\n"));
    }
    std::fs::write(listing, text).map_err(Error::file(listing))?;
    let mut command = testing.command(project, PROGRAM);
    command.arg(format!("-mtriple={architecture}-unknown-linux-gnu")).arg(format!("-mcpu={}", core.model));
    command.arg(format!("-iterations={STEPS}")).args(["-json", "-resource-pressure=false", "-instruction-info=false"]);
    if !features.is_empty() {
        command.arg(format!("-mattr={features}"));
    }
    read(&tool::output(command.arg(listing))?, loops.len())
}

/// Cycles of a step from what the program prints.
fn read(text: &str, count: usize) -> Result<Vec<f64>, Error> {
    let printed: Value = serde_json::from_str(text).map_err(|_| form("-json"))?;
    let regions = printed["CodeRegions"].as_array().ok_or_else(|| form("-json"))?;
    let mut cycles = vec![f64::NAN; count];
    for region in regions {
        let total = region["SummaryView"]["TotalCycles"].as_f64();
        let name = region["Name"].as_str().and_then(|name| name.parse::<usize>().ok());
        if let (Some(total), Some(place)) = (total, name.and_then(|name| cycles.get_mut(name))) {
            *place = total / f64::from(STEPS);
        }
    }
    if cycles.iter().any(|cycles| cycles.is_nan()) { Err(form("-json")) } else { Ok(cycles) }
}

fn form(option: &str) -> Error {
    Error::Form { what: format!("{PROGRAM} {option} printed something unexpected") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_read_by_name() {
        let region = |name: &str, cycles: u32| {
            format!(r#"{{"Name": "{name}", "SummaryView": {{"TotalCycles": {cycles}, "Iterations": 200}}}}"#)
        };
        let text = format!(r#"{{"CodeRegions": [{}, {}]}}"#, region("1", 2_500), region("0", 600));
        assert_eq!(read(&text, 2).expect("cycles"), [3.0, 12.5]);
        assert!(read(&text, 3).is_err());
        assert!(read("error", 1).is_err());
    }
}
