//! Finds the file to read a checkpoint from.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Returns a file as it is; for a folder, the index of its shards or its only `.safetensors` file.
pub(crate) fn locate(path: &Path) -> Result<PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in path.read_dir().map_err(Error::reading(path))? {
        files.push(entry.map_err(Error::reading(path))?.path());
    }
    let ending = |suffix: &str| {
        let mut found = files.iter().filter(|f| f.to_string_lossy().ends_with(suffix));
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    ending(".safetensors.index.json").or_else(|| ending(".safetensors")).ok_or_else(|| {
        let problem = "a folder must hold one .safetensors.index.json or one .safetensors file";
        Error::Usage(format!("{}: {problem}; or give the checkpoint file itself", path.display()))
    })
}
