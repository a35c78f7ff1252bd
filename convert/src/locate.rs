use std::path::{Path, PathBuf};

use crate::error::ConvertError;

/// The file that a checkpoint is read from: the file itself; of a folder, the index of its shards or its only
/// `.safetensors` file.
///
/// # Errors
/// [`ConvertError::Read`] for a folder that cannot be listed, [`ConvertError::Folder`] for one that holds none or
/// several.
pub fn locate(path: &Path) -> Result<PathBuf, ConvertError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let unreadable = |source| ConvertError::Read { path: path.to_owned(), source };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    let ending = |suffix: &str| {
        let mut found = files.iter().filter(|f| f.to_string_lossy().ends_with(suffix));
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    ending(".safetensors.index.json")
        .or_else(|| ending(".safetensors"))
        .ok_or_else(|| ConvertError::Folder(path.to_owned()))
}
