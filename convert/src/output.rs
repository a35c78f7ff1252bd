//! The output file. It is written under a temporary name in the same folder, and renamed once it is complete and on
//! disk.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::ConvertError;

/// Bytes buffered before a write.
const BUFFER: usize = 1 << 18;

/// Refuses what cannot be written, before anything is read. `input` must be another file.
pub(crate) fn check(path: &Path, input: &Path) -> Result<(), ConvertError> {
    let refuse = |reason| Err(ConvertError::Output { path: path.to_owned(), reason });
    match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => refuse("it is a folder"),
        Ok(existing) if !existing.is_file() => refuse("it is not a regular file"),
        Ok(_) if fs::canonicalize(path).ok() == fs::canonicalize(input).ok() => refuse("it is the input file"),
        _ if path.file_name().is_none() => refuse("it has no file name"),
        _ => Ok(()),
    }
}

/// An output file that vanishes unless [`Output::commit`] is reached.
pub(crate) struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    /// Removes the file when dropped.
    temporary: TempPath,
}

impl Output {
    /// Opens a temporary file in the folder of `path`, which passed [`check`].
    pub(crate) fn create(path: &Path) -> Result<Self, ConvertError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".denoir-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What any other program would create; the process's umask applies.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let created = builder.tempfile_in(folder);
        let created = created.map_err(|error| ConvertError::Write { path: path.to_owned(), source: plain(error) })?;
        let (file, temporary) = created.into_parts();
        Ok(Output { path: path.to_owned(), file: BufWriter::with_capacity(BUFFER, file), temporary })
    }

    pub(crate) fn file(&mut self) -> &mut BufWriter<File> {
        &mut self.file
    }

    /// Syncs the file to disk, then renames it to its final name.
    pub(crate) fn commit(self) -> Result<(), ConvertError> {
        let write = |source| ConvertError::Write { path: self.path.clone(), source };
        let file = self.file.into_inner().map_err(|error| write(error.into_error()))?;
        file.sync_all().map_err(write)?;
        drop(file);
        self.temporary.persist(&self.path).map_err(|error| write(plain(error.error)))?;
        // The name is only as durable as its folder; not every file system can sync one, and the file is whole.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// The system's error without the temporary file's path, which `tempfile` appends and which would only confuse.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason.to_owned()),
        None => error,
    }
}
