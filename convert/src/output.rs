//! Output files. Each is written under a temporary name in the folder of its final one, and renamed once it is complete
//! and on disk.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

/// Bytes buffered before a write.
const BUFFER: usize = 1 << 18;

/// An output file that vanishes unless [`Output::commit`] is reached.
///
/// A file that it replaces keeps its permissions and, where the system allows it, its owner. A symbolic link stays, and
/// the file that it leads to is replaced. Other hard links keep the old contents.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    file: BufWriter<File>,
    /// Removes the file when dropped.
    temporary: TempPath,
}

/// The path that is replaced, links followed, and what is there now.
///
/// # Errors
/// The system's error; an error for a folder, a device, or a link to nothing.
fn target(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    if path.file_name().is_none() {
        return Err(io::Error::other("it has no file name"));
    }
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((path.to_owned(), None)),
        Err(error) => return Err(error),
    };
    let target = if found.is_symlink() { fs::canonicalize(path) } else { Ok(path.to_owned()) };
    let target = target.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("it is a symbolic link to nothing"),
        _ => error,
    })?;
    let found = fs::metadata(&target)?;
    match found {
        _ if found.is_dir() => Err(io::Error::other("it is a folder")),
        _ if !found.is_file() => Err(io::Error::other("it is not a regular file")),
        _ => Ok((target, Some(found))),
    }
}

impl Output {
    /// Checks that `path` can name an output, as far as that is known without writing.
    ///
    /// # Errors
    /// The system's error; an error for a folder, a device, or a link to nothing.
    pub fn check(path: &Path) -> io::Result<()> {
        target(path).map(drop)
    }

    /// Opens a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// As [`Output::check`], or if the folder cannot be written. Messages do not show the temporary name.
    pub fn create(path: &Path) -> io::Result<Output> {
        let (target, replaced) = target(path)?;
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".denoir-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What any other program would create, the process's umask applied; of a file that is replaced, no more than
            // its own until the owner is known.
            let mode = if replaced.is_some() { 0o600 } else { 0o666 };
            builder.permissions(fs::Permissions::from_mode(mode));
        }
        let (file, temporary) = builder.tempfile_in(folder).map_err(plain)?.into_parts();
        if let Some(replaced) = replaced {
            keep_access(&file, &replaced)?;
        }
        Ok(Output { target, file: BufWriter::with_capacity(BUFFER, file), temporary })
    }

    /// The file written so far.
    pub fn file(&mut self) -> &mut (impl Write + Seek + use<>) {
        &mut self.file
    }

    /// Syncs the file to disk, then renames it to its final name.
    ///
    /// # Errors
    /// The system's error; no file is left then.
    pub fn commit(self) -> io::Result<()> {
        self.finish(true)
    }

    /// Renames the file to its final name without waiting for the disk: for what the next one replaces soon.
    ///
    /// # Errors
    /// The system's error; no file is left then.
    pub fn replace(self) -> io::Result<()> {
        self.finish(false)
    }

    fn finish(self, durable: bool) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if durable {
            file.sync_all()?;
        }
        drop(file);
        self.temporary.persist(&self.target).map_err(|error| plain(error.error))?;
        // The name is only as durable as its folder; not every file system can sync one, and the file is whole.
        if let (true, Some(Ok(folder))) = (durable, self.target.parent().map(File::open)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Gives a new file the permissions and, as far as the system allows it, the owner of the one that it replaces.
fn keep_access(file: &File, replaced: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Only the superuser gives files away. Changing the owner may drop bits of the mode, so it comes first.
        let _ = fchown(file, Some(replaced.uid()), Some(replaced.gid()));
    }
    file.set_permissions(replaced.permissions())
}

/// The system's own error. tempfile adds the temporary name, which means nothing to the user.
fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.source()).and_then(|inner| inner.downcast_ref::<io::Error>());
    let code = error.raw_os_error().or_else(|| inner.and_then(io::Error::raw_os_error));
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
