//! A `.pth` or `.ckpt` file as it is, and the zip file that other targets put a pickle in.

use std::io::{self, Seek, SeekFrom, Write};

use denoir_convert::{Config, ConvertError, convert_bytes};
use denoir_core::DType;

/// The types to convert to.
pub(crate) const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];

pub(crate) fn run(input: &[u8]) {
    let mut file = input.to_vec();
    mend_checksums(&mut file);
    convert(&file, DTYPES[input.len() % DTYPES.len()]);
}

/// Converts a checkpoint to a file that nobody keeps.
pub(crate) fn convert(file: &[u8], dtype: DType) {
    let mut output = Discarded::default();
    match convert_bytes(file, "input.ckpt", &mut output, None, dtype, &Config::default(), None) {
        Ok(summary) => assert_eq!(summary.bytes, output.len, "the summary knows the file's length"),
        Err(ConvertError::Write { source, .. }) => panic!("nothing was written to fail: {source}"),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// A file that only has a length.
#[derive(Default)]
struct Discarded {
    at: u64,
    len: u64,
}

impl Write for Discarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.at += bytes.len() as u64;
        self.len = self.len.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Discarded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Writes the checksum of each entry to the directory: a fuzzer would never find it.
fn mend_checksums(zip: &mut [u8]) {
    let u16_at = |zip: &[u8], at: usize| Some(usize::from(u16::from_le_bytes(*zip.get(at..)?.first_chunk()?)));
    let u32_at = |zip: &[u8], at: usize| Some(u32::from_le_bytes(*zip.get(at..)?.first_chunk()?) as usize);
    let checksum = |zip: &[u8], entry: usize| {
        let (len, local) = (u32_at(zip, entry + 24)?, u32_at(zip, entry + 42)?);
        let data = local.checked_add(30)? + u16_at(zip, local + 26)? + u16_at(zip, local + 28)?;
        Some(crc32fast::hash(zip.get(data..data.checked_add(len)?)?))
    };
    for entry in 0..zip.len().saturating_sub(46) {
        if zip[entry..].starts_with(b"PK\x01\x02")
            && let Some(sum) = checksum(zip, entry)
        {
            zip[entry + 16..entry + 20].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// A zip file with these entries, as `torch.save` writes it.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let local = file.len() as u32;
        // Sizes, checksum and name are at the same places of both headers.
        let mut fields = vec![0; 10];
        fields.extend(crc32fast::hash(data).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes().repeat(2));
        fields.extend((name.len() as u32).to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(local.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, count) = (file.len() as u32, entries.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes().repeat(2));
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend([0; 2]);
    file
}
