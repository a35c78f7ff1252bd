use std::fs::File;
use std::io;
use std::path::Path;

use denoir_core::View;
use denoir_core::backend::ModelFile;
use memmap2::Mmap;

use crate::Error;

/// A file mapped into memory, read-only. Nothing is copied; pages are read on first use.
///
/// The file must not change while it is mapped.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<MappedFile, Error> {
        let path = path.as_ref();
        let io = |e| Error::Io(path.to_owned(), e);
        // Before opening it, because opening a pipe waits for its writer.
        let metadata = path.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(io(io::Error::other("not a regular file")));
        }
        MappedFile::of(&File::open(path).map_err(io)?).map_err(io)
    }

    /// Maps an open file, which may be closed afterwards.
    ///
    /// # Errors
    /// The system's error, or that this is not a regular file.
    pub fn of(file: &File) -> io::Result<MappedFile> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(MappedFile(None));
        }
        // SAFETY: read-only; that nobody changes the file meanwhile is the documented condition of any memory map.
        Ok(MappedFile(Some(unsafe { Mmap::map(file) }?)))
    }

    /// The file's bytes, aligned to 64.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(map) => map,
            None => crate::AlignedBytes::none(),
        }
    }
}

impl ModelFile for MappedFile {
    fn bytes(&self) -> &[u8] {
        MappedFile::bytes(self)
    }

    /// Gives the pages back to the system; they are read again if they are needed again.
    #[cfg(unix)]
    fn has_read(&self, matrix: &View) {
        if let (Some(map), Some(len)) = (&self.0, matrix.len_bytes()) {
            // SAFETY: the map is of a file and read-only, so pages that are dropped come back the same.
            // A failure leaves the pages where they are.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, matrix.offset, len) };
        }
    }
}
