//! Output files: written under a temporary name in the same folder, renamed when complete.

use std::fs;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;

/// An output file that vanishes unless [`Output::commit`] is reached.
pub(crate) struct Output {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Output {
    /// Opens a temporary file in the folder of `path`.
    pub(crate) fn create(path: &Path) -> Result<Output, Error> {
        let refuse = |what: &str| Error::Write(path.to_owned(), io::Error::other(what));
        match fs::metadata(path) {
            Ok(existing) if existing.is_dir() => return Err(refuse("it is a folder")),
            Ok(existing) if !existing.is_file() => return Err(refuse("it is not a regular file")),
            _ => {}
        }
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
        let file = builder.tempfile_in(folder).map_err(|e| Error::Write(path.to_owned(), plain(e)))?;
        Ok(Output { path: path.to_owned(), file: BufWriter::with_capacity(1 << 16, file) })
    }

    /// Checks that `path` can be written, as far as that is known before writing.
    pub(crate) fn probe(path: &Path) -> Result<(), Error> {
        Output::create(path).map(drop)
    }

    /// Writes a whole file.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut output = Output::create(path)?;
        output.append(bytes)?;
        output.commit()
    }

    /// Writes the next bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::writing(&self.path))
    }

    /// The file written so far, for writers that seek back.
    pub(crate) fn file(&mut self) -> &mut (impl Write + Seek) {
        &mut self.file
    }

    /// Renames the complete file to its final name.
    pub(crate) fn commit(self) -> Result<(), Error> {
        let file = self.file.into_inner().map_err(|e| Error::Write(self.path.clone(), e.into_error()))?;
        file.persist(&self.path).map_err(|e| Error::Write(self.path.clone(), e.error))?;
        Ok(())
    }
}

/// The system's own error. tempfile adds the temporary name, which means nothing to the user.
fn plain(e: io::Error) -> io::Error {
    let inner = e.get_ref().and_then(|inner| inner.source()).and_then(|inner| inner.downcast_ref::<io::Error>());
    let code = e.raw_os_error().or_else(|| inner.and_then(io::Error::raw_os_error));
    code.map_or_else(|| e.kind().into(), io::Error::from_raw_os_error)
}
