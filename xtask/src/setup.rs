//! Installs what the checks need.

use std::path::Path;
use std::process::Command;

use crate::error::Error;
use crate::testing::{self, Testing};
use crate::tool::{self, Project};
use crate::{aarch64, bare, shaders};

/// What a check needs: how to see that it is there, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", present: || tool::exists("cc"), packages: &["gcc", "libc6-dev"] },
    Need { what: "a C++ compiler", present: || tool::exists("c++"), packages: &["g++"] },
    Need { what: "CMake", present: || tool::exists("cmake"), packages: &["cmake", "make"] },
    Need { what: "pkg-config", present: || tool::exists("pkg-config"), packages: &["pkg-config"] },
    Need { what: "xz", present: || tool::exists("xz"), packages: &["xz-utils"] },
    Need { what: "Python's environments", present: has_venv, packages: &["python3-venv"] },
    Need {
        what: "core for bare targets",
        present: bare::has_toolchains,
        packages: &["rustc-web", "cargo-web", "rust-web-src"],
    },
    Need { what: "an ELF linker for bare targets", present: bare::has_linker, packages: &["lld"] },
    Need { what: "QEMU for Arm", present: bare::has_emulators, packages: &["qemu-system-arm"] },
    Need {
        what: "a compiler and an emulator for aarch64 processes",
        present: || tool::exists(aarch64::LINKER) && tool::exists(aarch64::EMULATOR),
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"],
    },
    Need {
        what: "a shader compiler",
        present: || tool::exists(shaders::COMPILER) && tool::exists(shaders::VALIDATOR),
        packages: &["glslang-tools", "spirv-tools"],
    },
    Need {
        what: "a Vulkan driver with the validation layers",
        present: has_vulkan,
        packages: &["libvulkan1", "mesa-vulkan-drivers", "vulkan-validationlayers"],
    },
];

/// Where Vulkan's loader looks for the descriptions of drivers and layers.
const VULKAN_FOLDERS: &[&str] = &["/usr/share/vulkan", "/etc/vulkan", "/usr/local/share/vulkan"];

/// Whether a driver and the validation layers have told the loader of themselves.
fn has_vulkan() -> bool {
    let any = |folder: &str, word: &str| {
        let entries = VULKAN_FOLDERS.iter().filter_map(|of| Path::new(of).join(folder).read_dir().ok()).flatten();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains(word))
    };
    any("icd.d", ".json") && any("explicit_layer.d", "khronos_validation")
}

/// Whether Python can make an environment with pip: Debian keeps a part of that in a package of its own.
fn has_venv() -> bool {
    Command::new("python3").args(["-c", "import venv, ensurepip"]).output().is_ok_and(|output| output.status.success())
}

/// Installs what is missing, and unpacks Rust's library for aarch64 and Debian testing's Vulkan where apt-get can fetch
/// them.
pub(crate) fn run(project: &Project) -> Result<(), Error> {
    install(project)?;
    if let Err(e) = aarch64::make(project) {
        println!("setup: Rust for aarch64 cannot be had, `cargo xtask aarch64` will be skipped: {e}");
    }
    if Testing::find(project).is_some() {
        return Ok(());
    }
    let made = testing::mirror(project).or_else(|e| match apt(project) {
        // The lists of packages, which name the archive, may have been thrown away.
        Some(mut apt) => tool::run(apt().args(["update", "-q"])).and_then(|()| testing::mirror(project)),
        None => Err(e),
    });
    match made.and_then(|mirror| testing::make(project, &mirror)) {
        Ok(()) => println!("setup: Debian testing's Vulkan is unpacked below target"),
        Err(e) => println!("setup: Debian testing's Vulkan cannot be had, `cargo xtask matrix` will be skipped: {e}"),
    }
    Ok(())
}

/// Installs the packages of the needs that are not met, or prints the command where it cannot.
fn install(project: &Project) -> Result<(), Error> {
    if !bare::has_toolchains() {
        bare::add_targets(project);
    }
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        println!("setup: nothing is missing");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    for need in &missing {
        println!("setup: {} is missing", need.what);
    }
    let install = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    let Some(mut apt) = apt(project) else {
        let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
        return Err(Error::Missing { what, cure: format!("on Debian, as root: {install}") });
    };
    println!("setup: {install}");
    tool::run(apt().arg("update").arg("-q"))?;
    tool::run(apt().args(["install", "-y", "-q", "--no-install-recommends"]).args(&packages))?;
    match missing.iter().find(|need| !(need.present)()) {
        None => Ok(()),
        Some(need) => Err(Error::Missing { what: need.what.into(), cure: "its packages did not bring it".into() }),
    }
}

/// How to run apt-get as root without asking anything; `None` where there is no apt-get or no right to use it.
fn apt(project: &Project) -> Option<impl FnMut() -> Command> {
    if !tool::exists("apt-get") {
        return None;
    }
    let root = tool::output(project.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let sudo = !root && Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|o| o.status.success());
    (root || sudo).then_some(move || {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    })
}
