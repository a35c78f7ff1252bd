//! The zip container that `torch.save` writes: entries are stored, never compressed, so an entry is a byte range.
//!
//! The central directory is authoritative, because the local headers that torch writes have no sizes; a local header is
//! read only to find the start of the data. Zip64 records are read if present. Nothing is copied.

use core::fmt;
use core::ops::Range;
use std::collections::HashMap;

use denoir_core::checked::{self, Cursor, Short};

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// Length of the end record without its comment.
const END_LEN: usize = 22;
const END64_LOCATOR_LEN: u64 = 20;
const MIN_CENTRAL_LEN: u64 = 46;
const ZIP64_EXTRA: u16 = 1;
const ENCRYPTED: u16 = 1;
/// Bytes of a checksum between two questions whether to stop.
const STOP_EVERY: usize = 16 << 20;

/// Why a zip file was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZipError {
    /// The end-of-directory record is missing: the file is truncated, or not a zip file.
    NoEnd,
    /// A record ends early or does not fit the file.
    Truncated(&'static str),
    /// A record is not where another record places it, or two records disagree.
    Inconsistent(&'static str),
    /// The archive spans several files.
    MultiDisk,
    /// An entry is compressed.
    Compressed(String),
    /// An entry is encrypted.
    Encrypted(String),
    /// Two entries have the same name.
    Duplicate(String),
    /// The data of two entries, or of an entry and the directory, share bytes.
    Overlap(String),
    /// An entry does not match its checksum.
    Crc(String),
    /// An entry that the checkpoint needs is missing.
    Missing(String),
    /// A name is not UTF-8.
    NotUtf8,
    /// The caller asked to stop.
    Stopped,
}

impl fmt::Display for ZipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ZipError::*;
        match self {
            NoEnd => f.write_str("the zip directory is missing: the file is cut short or damaged"),
            Truncated(what) => write!(f, "damaged zip file: {what} does not fit"),
            Inconsistent(what) => write!(f, "damaged zip file: {what}"),
            MultiDisk => f.write_str("zip files in several parts are not supported"),
            Compressed(name) => {
                write!(f, "zip entry {name:?} is compressed; torch.save stores entries uncompressed: save it again")
            }
            Encrypted(name) => write!(f, "zip entry {name:?} is encrypted"),
            Duplicate(name) => write!(f, "zip entry {name:?} occurs twice"),
            Overlap(name) => write!(f, "zip entry {name:?} overlaps another"),
            Crc(name) => write!(f, "zip entry {name:?} does not match its checksum: the file is damaged"),
            Missing(name) => write!(f, "zip entry {name:?} is missing"),
            Stopped => f.write_str("stopped"),
            NotUtf8 => f.write_str("a zip entry's name is not UTF-8"),
        }
    }
}

impl core::error::Error for ZipError {}

/// A stored entry.
#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    data: &'a [u8],
    crc: u32,
}

/// A checked zip file of stored entries.
#[derive(Debug)]
pub(crate) struct Zip<'a> {
    entries: Vec<Entry<'a>>,
    by_name: HashMap<&'a str, usize>,
}

/// The location of the central directory.
struct Directory {
    range: Range<u64>,
    count: u64,
}

/// An entry of the central directory.
struct Central<'a> {
    name: &'a str,
    size: u64,
    local: u64,
    crc: u32,
}

impl<'a> Zip<'a> {
    /// Reads the directory and locates every entry.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ZipError> {
        let directory = find_directory(bytes)?;
        let size = directory.range.end - directory.range.start;
        let region = checked::range(bytes, directory.range.start, size).ok_or(ZipError::Truncated("the directory"))?;
        if directory.count > size / MIN_CENTRAL_LEN {
            return Err(ZipError::Truncated("the directory"));
        }
        let mut cursor = Cursor::new(region);
        let mut entries = Vec::with_capacity(directory.count as usize);
        let mut ranges = Vec::with_capacity(directory.count as usize);
        let mut by_name = HashMap::with_capacity(directory.count as usize);
        for index in 0..directory.count as usize {
            let central = Central::read(&mut cursor)?;
            let (range, data) = central.locate(bytes)?;
            if by_name.insert(central.name, index).is_some() {
                return Err(ZipError::Duplicate(central.name.into()));
            }
            ranges.push((range, central.name));
            entries.push(Entry { name: central.name, data, crc: central.crc });
        }
        if cursor.remaining() != 0 {
            return Err(ZipError::Inconsistent("the directory holds more than it counts"));
        }
        ranges.sort_unstable_by_key(|(range, _)| range.start);
        let starts = ranges.iter().skip(1).map(|(range, _)| range.start).chain([directory.range.start]);
        for ((range, name), next) in ranges.iter().zip(starts) {
            if range.end > next {
                return Err(ZipError::Overlap((*name).into()));
            }
        }
        Ok(Zip { entries, by_name })
    }

    /// Names of all entries, in directory order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.name)
    }

    /// The data of an entry, without comparing its checksum.
    pub(crate) fn data(&self, name: &str) -> Option<&'a [u8]> {
        Some(self.entries.get(*self.by_name.get(name)?)?.data)
    }

    /// The data of an entry, after comparing its checksum. `stop` is asked from time to time.
    pub(crate) fn verified(&self, name: &str, stop: &dyn Fn() -> bool) -> Result<&'a [u8], ZipError> {
        let entry = self.by_name.get(name).and_then(|&index| self.entries.get(index));
        let entry = entry.ok_or_else(|| ZipError::Missing(name.into()))?;
        let mut hash = crc32fast::Hasher::new();
        for part in entry.data.chunks(STOP_EVERY) {
            hash.update(part);
            if stop() {
                return Err(ZipError::Stopped);
            }
        }
        if hash.finalize() == entry.crc { Ok(entry.data) } else { Err(ZipError::Crc(name.into())) }
    }
}

/// Finds the end record and, if present, its zip64 counterpart.
fn find_directory(bytes: &[u8]) -> Result<Directory, ZipError> {
    let last = bytes.len().checked_sub(END_LEN).ok_or(ZipError::NoEnd)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    // The comment's length must end exactly at the end of the file: a signature inside a comment is not mistaken.
    let at = (first..=last).rev().find(|&at| {
        let record = &bytes[at..];
        record.starts_with(&END.to_le_bytes())
            && usize::from(u16::from_le_bytes([record[20], record[21]])) == record.len() - END_LEN
    });
    let at = at.ok_or(ZipError::NoEnd)? as u64;

    let short = |_: Short| ZipError::Truncated("the end record");
    let mut c = Cursor::new(bytes);
    c.skip(at + 4).map_err(short)?;
    let disks = (c.u16().map_err(short)?, c.u16().map_err(short)?);
    let counts = (c.u16().map_err(short)?, c.u16().map_err(short)?);
    let size = c.u32().map_err(short)?;
    let start = c.u32().map_err(short)?;

    let locator = at.checked_sub(END64_LOCATOR_LEN).and_then(|from| {
        let record = checked::range(bytes, from, END64_LOCATOR_LEN)?;
        record.starts_with(&END64_LOCATOR.to_le_bytes()).then_some((from, record))
    });
    if let Some((from, record)) = locator {
        return find_directory64(bytes, from, record);
    }
    if disks != (0, 0) || counts.0 != counts.1 {
        return Err(ZipError::MultiDisk);
    }
    checked_directory(start.into(), size.into(), at, counts.0.into())
}

/// Reads the zip64 end record that the locator at `locator_at` points to.
fn find_directory64(bytes: &[u8], locator_at: u64, locator: &[u8]) -> Result<Directory, ZipError> {
    let short = |_: Short| ZipError::Truncated("the zip64 end record");
    let mut c = Cursor::new(locator);
    c.skip(4).map_err(short)?;
    let (disk, at, disks) = (c.u32().map_err(short)?, c.u64().map_err(short)?, c.u32().map_err(short)?);
    if disk != 0 || disks > 1 {
        return Err(ZipError::MultiDisk);
    }
    let mut c = Cursor::new(bytes);
    c.skip(at).map_err(short)?;
    if c.u32().map_err(short)? != END64 {
        return Err(ZipError::Inconsistent("the zip64 end record is not where its locator says"));
    }
    let length = c.u64().map_err(short)?;
    if c.offset().checked_add(length) != Some(locator_at) {
        return Err(ZipError::Inconsistent("the zip64 end record has a wrong length"));
    }
    c.skip(4).map_err(short)?;
    if (c.u32().map_err(short)?, c.u32().map_err(short)?) != (0, 0) {
        return Err(ZipError::MultiDisk);
    }
    let (here, total) = (c.u64().map_err(short)?, c.u64().map_err(short)?);
    if here != total {
        return Err(ZipError::MultiDisk);
    }
    let (size, start) = (c.u64().map_err(short)?, c.u64().map_err(short)?);
    checked_directory(start, size, at, total)
}

/// The directory must end where the record that describes it begins.
fn checked_directory(start: u64, size: u64, record_at: u64, count: u64) -> Result<Directory, ZipError> {
    match start.checked_add(size) {
        Some(end) if end == record_at => Ok(Directory { range: start..end, count }),
        _ => Err(ZipError::Inconsistent("the directory does not end where its end record starts")),
    }
}

impl<'a> Central<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, ZipError> {
        let short = |_: Short| ZipError::Truncated("a directory entry");
        if c.u32().map_err(short)? != CENTRAL {
            return Err(ZipError::Inconsistent("a directory entry has a wrong signature"));
        }
        c.skip(4).map_err(short)?;
        let (flags, method) = (c.u16().map_err(short)?, c.u16().map_err(short)?);
        c.skip(4).map_err(short)?;
        let crc = c.u32().map_err(short)?;
        let (packed, size) = (c.u32().map_err(short)?, c.u32().map_err(short)?);
        let (name_len, extra_len) = (c.u16().map_err(short)?, c.u16().map_err(short)?);
        let (comment_len, disk) = (c.u16().map_err(short)?, c.u16().map_err(short)?);
        c.skip(6).map_err(short)?;
        let local = c.u32().map_err(short)?;
        let name = core::str::from_utf8(c.take(name_len.into()).map_err(short)?).map_err(|_| ZipError::NotUtf8)?;
        let extra = c.take(extra_len.into()).map_err(short)?;
        c.skip(comment_len.into()).map_err(short)?;

        let mut wide = Wide::find(extra);
        let size = wide.resolve(size)?;
        let packed = wide.resolve(packed)?;
        let local = wide.resolve(local)?;
        if disk != 0 && disk != u16::MAX {
            return Err(ZipError::MultiDisk);
        }
        if flags & ENCRYPTED != 0 {
            return Err(ZipError::Encrypted(name.into()));
        }
        if method != 0 {
            return Err(ZipError::Compressed(name.into()));
        }
        if packed != size {
            return Err(ZipError::Inconsistent("a stored entry has two different sizes"));
        }
        Ok(Central { name, size, local, crc })
    }

    /// Skips the local header: the bytes that the entry takes, header included, and its data.
    fn locate(&self, bytes: &'a [u8]) -> Result<(Range<u64>, &'a [u8]), ZipError> {
        let short = |_: Short| ZipError::Truncated("a local header");
        let mut c = Cursor::new(bytes);
        c.skip(self.local).map_err(short)?;
        if c.u32().map_err(short)? != LOCAL {
            return Err(ZipError::Inconsistent("a local header is not where the directory says"));
        }
        c.skip(2).map_err(short)?;
        let (flags, method) = (c.u16().map_err(short)?, c.u16().map_err(short)?);
        c.skip(16).map_err(short)?;
        let (name_len, extra_len) = (c.u16().map_err(short)?, c.u16().map_err(short)?);
        if c.take(name_len.into()).map_err(short)? != self.name.as_bytes() || method != 0 || flags & ENCRYPTED != 0 {
            return Err(ZipError::Inconsistent("a local header disagrees with the directory"));
        }
        c.skip(extra_len.into()).map_err(short)?;
        let data = c.take(self.size).map_err(|_| ZipError::Truncated("an entry's data"))?;
        Ok((self.local..c.offset(), data))
    }
}

/// The zip64 extra field: the 64-bit values of those 32-bit fields that hold all ones, in order.
struct Wide<'a>(Option<Cursor<'a>>);

impl<'a> Wide<'a> {
    fn find(extra: &'a [u8]) -> Self {
        let mut c = Cursor::new(extra);
        while let (Ok(id), Ok(len)) = (c.u16(), c.u16()) {
            let Ok(body) = c.take(len.into()) else { break };
            if id == ZIP64_EXTRA {
                return Wide(Some(Cursor::new(body)));
            }
        }
        Wide(None)
    }

    fn resolve(&mut self, narrow: u32) -> Result<u64, ZipError> {
        match &mut self.0 {
            Some(c) if narrow == u32::MAX => c.u64().map_err(|_| ZipError::Truncated("a zip64 field")),
            _ => Ok(narrow.into()),
        }
    }
}
