//! Output files of the command line.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// An output file that vanishes unless [`Output::commit`] is reached.
pub(crate) struct Output {
    path: PathBuf,
    inner: denoir_convert::Output,
}

impl Output {
    /// Opens a temporary file in the folder of `path`.
    pub(crate) fn create(path: &Path) -> Result<Output, Error> {
        let inner = denoir_convert::Output::create(path).map_err(Error::writing(path))?;
        Ok(Output { path: path.to_owned(), inner })
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

    /// Writes a whole file that the next one replaces soon.
    pub(crate) fn write_passing(path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut output = Output::create(path)?;
        output.append(bytes)?;
        output.inner.replace().map_err(Error::writing(path))
    }

    /// Writes the next bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.inner.file().write_all(bytes).map_err(Error::writing(&self.path))
    }

    /// The file written so far, for writers that seek back.
    pub(crate) fn file(&mut self) -> &mut (impl Write + Seek + use<>) {
        self.inner.file()
    }

    /// Syncs the complete file to disk and renames it to its final name.
    pub(crate) fn commit(self) -> Result<(), Error> {
        self.inner.commit().map_err(Error::writing(&self.path))
    }
}
