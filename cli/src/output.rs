//! Output files of the command line.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::interrupt;

/// An output file that vanishes unless [`Output::commit`] is reached. Writing ends once the user asked to stop.
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
        interrupt::check()?;
        self.inner.file().write_all(bytes).map_err(Error::writing(&self.path))
    }

    /// The file written so far, for writers that seek back. Once the user asked to stop, it takes no more.
    pub(crate) fn file(&mut self) -> Stoppable<impl Write + Seek + use<'_>> {
        Stoppable(self.inner.file())
    }

    /// Syncs the complete file to disk and renames it to its final name.
    pub(crate) fn commit(self) -> Result<(), Error> {
        self.inner.commit().map_err(Error::writing(&self.path))
    }
}

/// A file, and the option that names it.
pub(crate) type Named = (&'static str, PathBuf);

/// Refuses to write a file that is read, or that is written already, by whatever path or link it is named.
pub(crate) fn distinct(read: Vec<Named>, written: Vec<Named>) -> Result<(), Error> {
    let place = |(option, path): Named| (denoir_convert::Output::leads_to(&path), option);
    let mut seen: HashMap<_, _> = read.into_iter().map(place).collect();
    for (option, path) in written {
        match seen.insert(denoir_convert::Output::leads_to(&path), option) {
            Some(other) if other == option => {
                return Err(Error::Usage(format!("two files of {option} lead to {}", path.display())));
            }
            Some(other) => return Err(Error::Usage(format!("{other} and {option} name the same file"))),
            None => {}
        }
    }
    Ok(())
}

/// A writer that fails once the user asked to stop.
pub(crate) struct Stoppable<W>(pub(crate) W);

impl<W: Write> Write for Stoppable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if interrupt::requested() {
            return Err(io::Error::other("interrupted"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Seek> Seek for Stoppable<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
