//! The CUDA kernels: compiles them with NVIDIA's compilers from PyPI, in an environment under `target/`.

use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::python;
use crate::tool::{self, Project};

/// Entries of the ptxas report that a kernel must not have: memory for spilled registers.
const LOCAL_MEMORY: [&str; 3] = ["bytes stack", "bytes spill stores", "bytes spill loads"];

/// Compiles the kernels to `cuda/modules`.
pub(crate) fn write(project: &Project) -> Result<(), Error> {
    let modules = project.root.join("cuda/modules");
    compile(project, &modules)?;
    no_local_memory(&modules)
}

/// Compiles the kernels and compares them with the committed ones; none may spill registers.
pub(crate) fn check(project: &Project) -> Result<Outcome, Error> {
    let (committed, fresh) = (project.root.join("cuda/modules"), project.root.join("target/cuda-modules"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(Error::file(&fresh))?;
    }
    compile(project, &fresh)?;
    let (old, new) = (files(&committed)?, files(&fresh)?);
    let mut findings = 0;
    for name in old.iter().chain(new.iter().filter(|name| !old.contains(name))) {
        let read = |folder: &Path| fs::read(folder.join(name)).ok();
        if read(&committed) != read(&fresh) {
            println!("cuda/modules/{name} is not what its source gives: run `cargo xtask generate`");
            findings += 1;
        }
    }
    if findings > 0 {
        return Err(Error::Findings(findings));
    }
    no_local_memory(&committed)?;
    Ok(Outcome::Passed)
}

fn compile(project: &Project, out: &Path) -> Result<(), Error> {
    tool::run(project.command(python::CUDA.make(project)?).arg("cuda/compile.py").arg(out))
}

/// Names of a folder's files, sorted.
fn files(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file(folder))? {
        names.push(entry.map_err(Error::file(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads the ptxas reports, one line per kernel and architecture.
fn no_local_memory(modules: &Path) -> Result<(), Error> {
    let (mut kernels, mut findings) = (0, 0);
    for name in files(modules)?.iter().filter(|name| name.ends_with(".txt")) {
        let path = modules.join(name);
        for line in fs::read_to_string(&path).map_err(Error::file(&path))?.lines() {
            kernels += 1;
            if let Some(what) = local_memory(line) {
                println!("cuda/modules/{name}: {what} in {line}");
                findings += 1;
            }
        }
    }
    match findings {
        0 if kernels == 0 => Err(Error::Form { what: "cuda/modules has no report of ptxas".into() }),
        0 => Ok(()),
        count => Err(Error::Findings(count)),
    }
}

/// The memory that a kernel uses for spilled registers.
fn local_memory(line: &str) -> Option<&'static str> {
    LOCAL_MEMORY.into_iter().find(|what| !line.contains(&format!(" 0 {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spills_are_found() {
        let good = "linear_f16_any sm_80: 72 registers, 0 bytes stack, 0 bytes spill stores, 0 bytes spill loads, 0 bytes shared";
        assert_eq!(local_memory(good), None);
        assert_eq!(local_memory(&good.replace("0 bytes spill stores", "20 bytes spill stores")), Some(LOCAL_MEMORY[1]));
        assert_eq!(local_memory("linear_f16_any sm_80"), Some(LOCAL_MEMORY[0]));
    }
}
