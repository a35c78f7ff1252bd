//! Builds with a sanitizer, or without.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bare;
use crate::error::Error;
use crate::tool::{self, Project};

/// How programs are built for a check.
pub(super) struct Build<'p> {
    pub(super) project: &'p Project,
    /// Its build folder.
    pub(super) folder: PathBuf,
    target: String,
    /// The sanitizer, and the name of its library; none for programs as they are.
    sanitizer: Option<(&'static str, &'static str)>,
    /// Settings of the development profile.
    pub(super) profile: &'static [(&'static str, &'static str)],
    pub(super) source: Option<RustSource>,
}

impl<'p> Build<'p> {
    pub(super) fn plain(project: &'p Project) -> Result<Build<'p>, Error> {
        let folder = tool::target_folder()?;
        Ok(Build { project, folder, target: target(), sanitizer: None, profile: &[], source: None })
    }

    pub(super) fn sanitized(
        project: &'p Project,
        name: &'static str,
        library: &'static str,
    ) -> Result<Build<'p>, Error> {
        let folder = tool::target_folder()?.join("sanitize").join(name);
        let profile = &[("OPT_LEVEL", "1"), ("INCREMENTAL", "false")];
        Ok(Build { project, folder, target: target(), sanitizer: Some((name, library)), profile, source: None })
    }

    /// A cargo command of this build. Sanitizers are unstable options of every compiler.
    pub(super) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = self.project.cargo(args);
        command.arg("--target-dir").arg(&self.folder);
        for (name, value) in self.profile {
            command.env(format!("CARGO_PROFILE_DEV_{name}"), value);
        }
        let Some((sanitizer, _)) = self.sanitizer else { return command };
        command.args(["--target", &self.target]).env("RUSTC_BOOTSTRAP", "1");
        let mut flags = format!("-Zsanitizer={sanitizer}");
        match &self.source {
            Some(source) => source.give(&mut command),
            // The standard library as it comes was built without.
            None => flags += " -Cunsafe-allow-abi-mismatch=sanitizer",
        }
        command.env("RUSTFLAGS", flags);
        command
    }

    /// Where programs and libraries are.
    pub(super) fn output(&self) -> PathBuf {
        match self.sanitizer {
            Some(_) => self.folder.join(&self.target).join("debug"),
            None => self.folder.join("debug"),
        }
    }

    /// The sanitizer's library, from the compiler's own.
    pub(super) fn runtime(&self) -> Result<Option<PathBuf>, Error> {
        let Some((_, library)) = self.sanitizer else { return Ok(None) };
        let end = format!("_rt.{library}.a");
        let folder = tool::output(self.project.command("rustc").args(["--print", "target-libdir"]))?;
        let folder = Path::new(folder.trim());
        let files = std::fs::read_dir(folder).map_err(Error::file(folder))?.flatten().map(|file| file.path());
        let found = files.into_iter().find(|path| path.to_string_lossy().ends_with(&end));
        let missing = || Error::Missing { what: format!("*{end}"), cure: "use the compiler from rustup".into() };
        found.ok_or_else(missing).map(Some)
    }
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The standard library's source, from which it is built with the sanitizer too.
pub(super) struct RustSource(Option<PathBuf>);

impl RustSource {
    /// That of the compiler in use, or a folder named in the environment, which has `library` of the same version.
    pub(super) fn find() -> Option<RustSource> {
        if let Some(folder) = std::env::var_os("DENOIR_RUST_SOURCE") {
            return Some(RustSource(Some(folder.into())));
        }
        bare::has_source(Path::new("rustc")).then_some(RustSource(None))
    }

    fn give(&self, command: &mut Command) {
        command.arg("-Zbuild-std");
        if let Some(folder) = &self.0 {
            command.env("__CARGO_TESTS_ONLY_SRC_ROOT", folder);
        }
    }
}
