use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use denoir_core::View;
use denoir_core::backend::ModelFile;
use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::Error;

/// How a file comes into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loading {
    /// It is read. Whatever happens to the file afterwards, what was read stays as it is.
    ///
    /// A model's largest matrices are read only when a pipeline is made, straight into their place there, so that
    /// nothing is in memory twice. If the file has changed by then, making the pipeline fails.
    #[default]
    Read,
    /// It is mapped: nothing is copied, pages are read on first use, and those that are not needed soon can be given
    /// back.
    ///
    /// **The file must not change while it is in use.** If somebody makes it shorter, the system ends the whole process
    /// at the next access (SIGBUS on Unix); if somebody overwrites it, the images are of whatever it holds then. Replacing
    /// the file by renaming another one is harmless. Choose this only if nobody but the program writes the file, or if the
    /// program has nothing to lose.
    Map,
}

/// A file mapped into memory, read-only: [`Loading::Map`], with its danger.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<MappedFile, Error> {
        let path = path.as_ref();
        MappedFile::of(&regular(path)?).map_err(|e| Error::Io(path.to_owned(), e))
    }

    /// Maps an open file, which may be closed afterwards.
    ///
    /// # Errors
    /// The system's error, or that this is not a regular file.
    pub fn of(file: &File) -> io::Result<MappedFile> {
        if len_of(file)? == 0 {
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

/// Opens a regular file.
fn regular(path: &Path) -> Result<File, Error> {
    let io = |e| Error::Io(path.to_owned(), e);
    // Before opening it, because opening a pipe waits for its writer.
    let metadata = path.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(io(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(io(io::Error::other("not a regular file")));
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // What has taken the file's place since is not waited for either.
        options.custom_flags(libc::O_NONBLOCK);
    }
    options.open(path).map_err(io)
}

/// Bytes of an open file, which must be a regular one.
fn len_of(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(io::Error::other("not a regular file")) }
}

/// An open file that is read part by part, and must stay as it is until all is read.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    path: PathBuf,
    len: usize,
    modified: Option<SystemTime>,
}

impl Reader {
    /// # Errors
    /// [`Error::Io`] if the file cannot be read or is not a regular file.
    pub(crate) fn open(path: &Path) -> Result<Reader, Error> {
        Reader::new(regular(path)?, path.to_owned())
    }

    /// A reader of an open file, whose position does not change. Errors call it `path`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub(crate) fn new(file: File, path: PathBuf) -> Result<Reader, Error> {
        let sizes = len_of(&file).and_then(|len| Ok((len, file.metadata()?.modified().ok())));
        match sizes {
            Ok((len, modified)) => {
                let len = usize::try_from(len).map_err(|_| Error::Memory(usize::MAX))?;
                Ok(Reader { file, path, len, modified })
            }
            Err(e) => Err(Error::Io(path, e)),
        }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Memory for the whole file, all zero. Pages are taken when they are written.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn room(&self) -> Result<MmapMut, Error> {
        // A map has a byte at least.
        let room = MmapOptions::new().len(self.len.max(1)).no_reserve_swap().map_anon();
        let room = room.map_err(|_| Error::Memory(self.len))?;
        // Large pages would fill what is left out between parts that are read.
        #[cfg(target_os = "linux")]
        let _ = room.advise(memmap2::Advice::NoHugePage);
        Ok(room)
    }

    /// The whole file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Memory`].
    pub(crate) fn whole(&self) -> Result<Contents, Error> {
        let mut room = self.room()?;
        self.read(0, &mut room[..self.len])?;
        self.check()?;
        self.contents(room)
    }

    /// What was read, from now on read-only.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn contents(&self, room: MmapMut) -> Result<Contents, Error> {
        let room = room.make_read_only().map_err(|e| Error::Io(self.path.clone(), e))?;
        Ok(Contents { room, len: self.len })
    }

    /// Fills `to` with the file's bytes from byte `at` on.
    ///
    /// # Errors
    /// [`Error::Io`], also if the file has become too short.
    pub(crate) fn read(&self, mut at: usize, mut to: &mut [u8]) -> Result<(), Error> {
        /// Bytes at a time: systems have a limit of 2 GiB.
        const MOST: usize = 1 << 30;
        while !to.is_empty() {
            let part = to.len().min(MOST);
            match read_at(&self.file, &mut to[..part], at as u64) {
                Ok(0) => return Err(self.has_changed()),
                Ok(read) => {
                    at += read;
                    to = &mut to[read..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Io(self.path.clone(), e)),
            }
        }
        Ok(())
    }

    /// Returns an error unless the file is still the one that was opened, as far as its length and date tell.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let metadata = self.file.metadata().map_err(|e| Error::Io(self.path.clone(), e))?;
        let same = metadata.len() == self.len as u64 && metadata.modified().ok() == self.modified;
        if same { Ok(()) } else { Err(self.has_changed()) }
    }

    fn has_changed(&self) -> Error {
        Error::Io(self.path.clone(), io::Error::other("the file has changed since it was opened"))
    }
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, to, at)
}

#[cfg(windows)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, to, at)
}

/// A file's bytes in memory of their own, from the start of a page on.
#[derive(Debug)]
pub(crate) struct Contents {
    room: Mmap,
    len: usize,
}

impl AsRef<[u8]> for Contents {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.len]
    }
}
