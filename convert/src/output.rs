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
    folder: PathBuf,
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

    /// Where a path leads: links followed, of a file that is not there yet those of its folder. Two paths that lead to
    /// the same place name one file.
    pub fn leads_to(path: &Path) -> PathBuf {
        let in_folder = || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(folder.canonicalize().ok()?.join(path.file_name()?))
        };
        path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
    }

    /// Opens a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// As [`Output::check`], or if the folder cannot be written. Messages do not show the temporary name.
    pub fn create(path: &Path) -> io::Result<Output> {
        let (target, replaced) = target(path)?;
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // What any other program would create, the process's umask applied. What replaces a file is for its owner
            // alone until it has the other's permissions.
            options.mode(if replaced.is_some() { 0o600 } else { 0o666 });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".denoir-").suffix(".tmp");
        let (file, temporary) = builder.make_in(&folder, |path| options.open(path))?.into_parts();
        if let Some(replaced) = replaced {
            keep_access(&file, &replaced)?;
        }
        Ok(Output { target, folder, file: BufWriter::with_capacity(BUFFER, file), temporary })
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
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        // The name is only as durable as its folder; not every file system can sync one, and the file is whole.
        if let (true, Ok(folder)) = (durable, File::open(&self.folder)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Gives a new file the permissions and, as far as the system allows it, the owner and group of the one that it
/// replaces.
#[cfg(unix)]
fn keep_access(file: &File, replaced: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    // Only the superuser gives files away, but who owns one may choose among his groups.
    let (owner, group) = (Some(replaced.uid()), Some(replaced.gid()));
    let of_group = fchown(file, owner, group).or_else(|_| fchown(file, None, group)).is_ok();
    // Nothing written here is a program that runs as its owner. Another group gets no more than everybody.
    let mode = replaced.mode() & 0o777;
    let mode = if of_group { mode } else { mode & 0o707 | (mode & 0o007) << 3 };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Gives a new file the permissions of the one that it replaces.
#[cfg(not(unix))]
fn keep_access(file: &File, replaced: &Metadata) -> io::Result<()> {
    file.set_permissions(replaced.permissions())
}
