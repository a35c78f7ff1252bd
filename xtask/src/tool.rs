//! The project's folder, and programs run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;

/// What tests may need and a machine may lack.
const DEVICES: &[&str] = &["vulkan", "cuda", "avx2", "avx512"];

/// The project's folder, and the command-line options.
#[derive(Debug)]
pub(crate) struct Project {
    /// Root of the repository.
    pub(crate) root: PathBuf,
    /// Devices whose tests must run, separated by commas.
    pub(crate) require: Option<String>,
    /// Checks of `ci` to leave out, together with what only they need.
    without: Vec<String>,
}

impl Project {
    /// `require` and `without` are words between commas.
    pub(crate) fn new(require: Option<String>, without: Option<String>) -> Result<Project, Error> {
        for device in require.iter().flat_map(|devices| devices.split(',')) {
            if !DEVICES.contains(&device) {
                let known = DEVICES.join(", ");
                return Err(Error::Usage(format!("--require knows {known}, not {device}")));
            }
        }
        let without = without.iter().flat_map(|checks| checks.split(',')).map(str::to_owned).collect();
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = manifest.as_deref().and_then(Path::parent).map(Path::to_owned);
        let root = root.ok_or_else(|| Error::Usage("run this as `cargo xtask`".into()))?;
        Ok(Project { root, require, without })
    }

    /// Returns whether a check of `ci` is left out.
    pub(crate) fn leaves_out(&self, check: &str) -> bool {
        self.without.iter().any(|left| left == check)
    }

    /// The cargo that runs this.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args);
        command
    }

    /// A program in the project's root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }
}

/// Runs a command to its end, its output passed through.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(start(command))?;
    if status.success() { Ok(()) } else { Err(failed(command)) }
}

/// Runs a command to its end, or kills it when the time is up.
pub(crate) fn run_for(command: &mut Command, limit: Duration) -> Result<(), Error> {
    let end = Instant::now() + limit;
    let mut child = command.spawn().map_err(start(command))?;
    loop {
        match child.try_wait().map_err(start(command))? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(failed(command)),
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            None => {
                // It may have ended by itself just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Form { what: format!("{} took longer than {limit:?}", shown(command)) });
            }
        }
    }
}

/// What a command writes to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let output = command.stderr(std::process::Stdio::inherit()).output().map_err(start(command))?;
    if !output.status.success() {
        return Err(failed(command));
    }
    String::from_utf8(output.stdout).map_err(|_| Error::Form { what: format!("{} printed no text", shown(command)) })
}

/// Returns whether a program is on the path and starts.
pub(crate) fn exists(program: &str) -> bool {
    succeeds(Command::new(program).arg("--version"))
}

/// Returns whether a command succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Cargo's build folder: the one that contains this program.
pub(crate) fn target_folder() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::file("xtask"))?;
    let target = program.ancestors().nth(2).ok_or_else(|| Error::Form { what: "xtask lies in no folder".into() })?;
    Ok(target.to_owned())
}

pub(crate) fn start(command: &Command) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let program = command.get_program().to_string_lossy().into_owned();
    move |source| Error::Start { program, source }
}

pub(crate) fn failed(command: &Command) -> Error {
    Error::Failed { command: shown(command) }
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}
