//! Debian testing's Mesa, validation layers and shader compiler, unpacked next to the build. Unlike Debian 12's, they
//! support cooperative matrices. With them comes LLVM, whose models of processors are newer. Programs run on them through
//! their own dynamic loader, without a chroot or special rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::tool::{self, Project};

/// The release and what is taken from it, with all that it depends on.
const RELEASE: &str = "forky";
const PACKAGES: &[&str] =
    &["mesa-vulkan-drivers", "vulkan-validationlayers", "glslang-tools", "spirv-tools", "libvulkan1", "llvm-21"];
/// For `apt-get update`: fails fast if the archive cannot be reached.
pub(crate) const IMPATIENT: &[&str] = &[
    "--error-on=any",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "Acquire::http::Timeout=15",
    "-o",
    "Acquire::https::Timeout=15",
];
/// The key that signs the release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The row of the op matrix that only this Mesa runs.
const ROW: &str = "vulkan/cooperative-matrix";

/// An unpacked tree.
pub(crate) struct Testing {
    root: PathBuf,
    /// Folder of its shared libraries.
    libraries: PathBuf,
    /// Its dynamic loader.
    loader: PathBuf,
}

impl Testing {
    /// The tree, if it exists.
    pub(crate) fn find(project: &Project) -> Option<Testing> {
        let root = folder(project).join("tree");
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = root.join("usr/lib").join(triple);
        let loader = match std::env::consts::ARCH {
            "x86_64" => libraries.join("ld-linux-x86-64.so.2"),
            "aarch64" => libraries.join("ld-linux-aarch64.so.1"),
            _ => return None,
        };
        // The loader is there before the last package is: the stamp comes last, and says what was unpacked.
        let unpacked = fs::read_to_string(stamp(project)).unwrap_or_default();
        (unpacked == PACKAGES.join(" ") && loader.is_file()).then_some(Testing { root, libraries, loader })
    }

    /// The tree, or an error that says how to make it.
    pub(crate) fn get(project: &Project) -> Result<Testing, Error> {
        let missing = || Error::Missing {
            what: "Debian testing's Vulkan and LLVM".into(),
            cure: "run `cargo xtask setup`".into(),
        };
        Testing::find(project).ok_or_else(missing)
    }

    /// One of its own programs.
    pub(crate) fn command(&self, project: &Project, program: &str) -> Command {
        let mut command = project.command(&self.loader);
        command.arg("--library-path").arg(&self.libraries).arg(self.root.join("usr/bin").join(program));
        command
    }

    /// One of its shared libraries.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        self.libraries.join(name)
    }

    /// The setting that points a loader to the validation layer.
    pub(crate) fn layer(&self) -> PathBuf {
        self.root.join("usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json")
    }

    /// Makes cargo run test programs on it.
    fn under(&self, command: &mut Command) -> Result<(), Error> {
        let vulkan = self.root.join("usr/share/vulkan");
        let none = self.root.join("none");
        fs::create_dir_all(&none).map_err(Error::file(&none))?;
        let target = format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase());
        let runner = format!("{} --library-path {}", self.loader.display(), self.libraries.display());
        command.env(format!("CARGO_TARGET_{target}_RUNNER"), runner);
        command.env("VK_DRIVER_FILES", vulkan.join("icd.d/lvp_icd.json"));
        command.env("VK_LAYER_PATH", vulkan.join("explicit_layer.d"));
        // The machine's own layers are none of its business.
        command.env("VK_IMPLICIT_LAYER_PATH", none);
        Ok(())
    }
}

/// Tests the kernels and forward passes with cooperative matrices on Debian testing's software Vulkan.
pub(crate) fn run(project: &Project) -> Result<Outcome, Error> {
    let testing = Testing::get(project)?;
    let mut command = project.cargo(["test", "--workspace", "--test", "op_matrix", "--test", "vulkan"]);
    command.args(["--", "linear", "attention", "forward_passes"]);
    // A hundred cases of each kernel: software compiles its matrices for ten seconds a shape, and multiplies slowly.
    command.env("DENOIR_ROW", ROW).env("DENOIR_REQUIRE", ROW).env("DENOIR_CASES", "100");
    testing.under(&mut command)?;
    tool::run(&mut command)?;
    Ok(Outcome::Passed)
}

/// Makes the tree: apt-get finds and checks the packages, as an ordinary user and outside the system's own lists.
pub(crate) fn make(project: &Project, mirror: &str) -> Result<(), Error> {
    let (folder, tree) = (folder(project), folder(project).join("tree"));
    for part in
        ["lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "tree"]
    {
        let part = folder.join(part);
        fs::create_dir_all(&part).map_err(Error::file(&part))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n");
    write(&folder.join("sources.list"), &source)?;
    // Nothing is installed there yet, so that every dependency is fetched.
    write(&folder.join("status"), "")?;
    // apt-get has said why; its command line is long.
    let unreachable = |_| Error::Form { what: format!("apt-get cannot fetch it from {mirror}") };
    tool::run(apt(project).args(["-q", "update"]).args(IMPATIENT)).map_err(unreachable)?;
    let mut download = apt(project);
    download.args(["-q", "-y", "--no-install-recommends", "--download-only", "install"]).args(PACKAGES);
    tool::run(&mut download).map_err(unreachable)?;
    let archives = folder.join("archives");
    for entry in fs::read_dir(&archives).map_err(Error::file(&archives))? {
        let path = entry.map_err(Error::file(&archives))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            tool::run(project.command("dpkg-deb").arg("-x").arg(&path).arg(&tree))?;
            fs::remove_file(&path).map_err(Error::file(&path))?;
        }
    }
    write(&stamp(project), &PACKAGES.join(" "))
}

/// The archive that this machine's apt-get uses, if it is a Debian.
pub(crate) fn mirror(project: &Project) -> Result<String, Error> {
    let list = tool::output(project.command("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]))?;
    let mirrors = list.lines().filter_map(|line| line.strip_prefix("Debian "));
    let mirror = mirrors.filter(|uri| !uri.contains("security")).min_by_key(|uri| uri.len());
    mirror.map(str::to_owned).ok_or_else(|| Error::Missing { what: "a Debian archive".into(), cure: "a Debian".into() })
}

/// apt-get with lists, status and archives of its own.
fn apt(project: &Project) -> Command {
    let folder = folder(project);
    let mut command = project.command("apt-get");
    let mut set = |key: &str, value: &Path| {
        command.arg("-o").arg(format!("{key}={}", value.display()));
    };
    set("Dir::State", &folder);
    set("Dir::State::lists", &folder.join("lists"));
    set("Dir::State::status", &folder.join("status"));
    set("Dir::Cache", &folder);
    set("Dir::Cache::archives", &folder.join("archives"));
    set("Dir::Etc", &folder.join("etc"));
    set("Dir::Etc::SourceList", &folder.join("sources.list"));
    command.args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"]);
    command
}

fn folder(project: &Project) -> PathBuf {
    project.root.join("target/debian-testing")
}

fn stamp(project: &Project) -> PathBuf {
    folder(project).join("complete")
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file(path))
}
