//! Memory that is too short: the program ends with one line, never with a signal.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use common::Run;

/// What is drawn: little, but with threads and a picture.
const ARGS: [&str; 11] =
    ["generate", "--quiet", "--steps", "2", "--threads", "3", "-o", "out.png", "--no-mmap", "--model", MODEL];
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo/emoji.gguf");

/// Runs the program with this many kilobytes of address space.
fn within(folder: &Path, kilobytes: u64) -> Result<Run> {
    let program = common::denoir(folder);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &kilobytes.to_string()])
        .arg(program.get_program())
        .args(ARGS);
    command.current_dir(folder);
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Ok(Run::from(command.output()?))
}

/// Whether the program succeeded. If not, it must have said so in one line.
fn is_enough(folder: &Path, kilobytes: u64) -> Result<bool> {
    let run = within(folder, kilobytes)?;
    match run.code {
        Some(0) => Ok(true),
        Some(1) => {
            ensure!(
                run.stderr.lines().count() == 1 && run.stderr.starts_with("error: "),
                "{kilobytes}: {}",
                run.stderr
            );
            Ok(false)
        }
        code => anyhow::bail!("{kilobytes} KiB: exit code {code:?}: {}", run.stderr),
    }
}

#[test]
fn a_program_that_meets_its_limit_of_memory_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Below this the program is not even loaded.
    let (mut few, mut enough) = (48 << 10, 1 << 20);
    ensure!(is_enough(folder.path(), enough)?, "1 GiB is not enough");
    while enough - few > 64 {
        let middle = few.midpoint(enough);
        *(if is_enough(folder.path(), middle)? { &mut enough } else { &mut few }) = middle;
    }
    let mut refused = 0;
    for i in 1..40 {
        refused += u32::from(!is_enough(folder.path(), enough - 16 * i * i)?);
    }
    ensure!(refused > 20, "{refused} of 39 runs below {enough} KiB were refused");
    Ok(())
}
