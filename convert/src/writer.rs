//! The GGUF writer: the header in memory, then the tensor data as a stream.

use std::io::{self, Seek, SeekFrom, Write};

use denoir_core::checked;
use denoir_core::gguf::{GgmlType, keys};

/// Alignment of tensor data: a cache line, and wide enough for any SIMD load.
pub(crate) const ALIGNMENT: u64 = 64;

const TYPE_U32: u32 = 4;
const TYPE_I32: u32 = 5;
const TYPE_F32: u32 = 6;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// The metadata section.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

impl Metadata {
    fn key(&mut self, key: &str, ty: u32) {
        text(&mut self.bytes, key);
        self.bytes.extend(ty.to_le_bytes());
        self.count += 1;
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, TYPE_U32);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, TYPE_F32);
        self.bytes.extend(value.to_le_bytes());
    }

    /// Adds a string; returns the offset of its text in the section, so that it can be filled in later.
    pub(crate) fn string(&mut self, key: &str, value: &str) -> u64 {
        self.key(key, TYPE_STRING);
        text(&mut self.bytes, value);
        (self.bytes.len() - value.len()) as u64
    }

    pub(crate) fn strings(&mut self, key: &str, values: &[String]) {
        self.key(key, TYPE_ARRAY);
        self.bytes.extend(TYPE_STRING.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| text(&mut self.bytes, value));
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.key(key, TYPE_ARRAY);
        self.bytes.extend(TYPE_I32.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) ty: GgmlType,
    pub(crate) len_bytes: u64,
}

impl Entry {
    /// `None` if the size overflows.
    pub(crate) fn new(name: String, shape: Vec<u64>, ty: GgmlType) -> Option<Self> {
        let (block, block_bytes) = ty.block()?;
        let len_bytes = checked::byte_len(checked::elements(&shape)?, block, block_bytes)?;
        Some(Entry { name, shape, ty, len_bytes })
    }
}

/// Writes a file front to back: [`Writer::start`], then for each entry in order its data and [`Writer::end_tensor`].
pub(crate) struct Writer<'w, W> {
    out: &'w mut W,
    written: u64,
}

impl<'w, W: Write + Seek> Writer<'w, W> {
    /// Writes the header. Offsets that overflow are an error, though no disk could hold such a file.
    pub(crate) fn start(out: &'w mut W, metadata: &Metadata, entries: &[Entry]) -> io::Result<Self> {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((entries.len() as u64).to_le_bytes());
        head.extend(metadata.count.to_le_bytes());
        head.extend(&metadata.bytes);
        let mut offset = 0u64;
        for entry in entries {
            text(&mut head, &entry.name);
            head.extend((entry.shape.len() as u32).to_le_bytes());
            entry.shape.iter().rev().for_each(|dim| head.extend(dim.to_le_bytes()));
            head.extend(entry.ty.code().to_le_bytes());
            head.extend(offset.to_le_bytes());
            let end = offset.checked_add(entry.len_bytes).and_then(|end| checked::align_up(end, ALIGNMENT));
            offset = end.ok_or(io::ErrorKind::FileTooLarge)?;
        }
        let mut writer = Writer { out, written: 0 };
        writer.write(&head)?;
        writer.end_tensor()?;
        Ok(writer)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Pads to the alignment.
    pub(crate) fn end_tensor(&mut self) -> io::Result<()> {
        let padding = [0u8; ALIGNMENT as usize];
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&padding[..missing as usize])
    }

    /// Fills in text of the metadata section at the offset from [`Metadata::string`]; returns the file's length.
    pub(crate) fn finish(self, at: u64, text: &str) -> io::Result<u64> {
        self.out.seek(SeekFrom::Start(METADATA_START + at))?;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(self.written)
    }
}

/// Magic, version, two counts.
const METADATA_START: u64 = 4 + 4 + 8 + 8;

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// `general.alignment` for the metadata of every file that [`Writer`] writes.
pub(crate) fn declare_alignment(metadata: &mut Metadata) {
    metadata.u32(keys::ALIGNMENT, ALIGNMENT as u32);
}
