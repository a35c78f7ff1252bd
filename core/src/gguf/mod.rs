//! Zero-copy reader of GGUF version 3 over a byte slice.
//!
//! [`Gguf::parse`] checks every size, offset, count and name once. Later lookups fail only if an entry is missing or
//! has the wrong type. Nothing is allocated or copied: names, strings and tensor data borrow from the file. A lookup
//! scans the header, so callers should resolve names once and keep the views.
//!
//! ```
//! # fn show(file: &[u8]) -> Result<(), denoir_core::gguf::GgufError> {
//! use denoir_core::gguf::{Gguf, keys};
//! let gguf = Gguf::parse(file)?;
//! let blocks = gguf.u32(keys::jit::BLOCK_COUNT)?;
//! let qkv = gguf.tensor("blocks.0.attn.qkv.weight")?;
//! assert_eq!(qkv.dims.as_slice().len(), 2); // (rows, columns), as in PyTorch
//! # let _ = blocks; Ok(()) }
//! ```

mod error;
pub mod keys;
mod value;

pub use error::{GgufError, Name};
pub use value::{Array, Elements, Value, ValueType};

use crate::DType;
use crate::checked::{self, Cursor, Short};
use error::cut;
use value::Fault;

/// Alignment of tensor data if `general.alignment` is absent.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Maximum number of metadata entries that a file may have.
pub const MAX_METADATA: u64 = 1024;
/// Maximum number of tensors that a file may have.
pub const MAX_TENSORS: u64 = 16_384;
/// Longest tensor name in bytes, ggml's own limit.
pub const MAX_NAME: u64 = 64;
/// Minimum bytes of a metadata entry: key length, type, one byte of value.
const MIN_METADATA_BYTES: u64 = 8 + 4 + 1;
/// Minimum bytes of a tensor entry: name length, rank, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgmlType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Blocks of 32: one F16 scale, then 32 signed 8-bit integers (34 bytes).
    Q8_0,
    /// Another ggml type, by its code. Such tensors can be listed but not read.
    Other(u32),
}

impl GgmlType {
    /// The type of a ggml code.
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => GgmlType::F32,
            1 => GgmlType::F16,
            8 => GgmlType::Q8_0,
            24 => GgmlType::I8,
            30 => GgmlType::BF16,
            other => GgmlType::Other(other),
        }
    }

    /// ggml's code.
    pub const fn code(self) -> u32 {
        match self {
            GgmlType::F32 => 0,
            GgmlType::F16 => 1,
            GgmlType::Q8_0 => 8,
            GgmlType::I8 => 24,
            GgmlType::BF16 => 30,
            GgmlType::Other(code) => code,
        }
    }

    /// (elements, bytes) of one block, (1, element size) for plain types; `None` for [`GgmlType::Other`].
    pub const fn block(self) -> Option<(u64, u64)> {
        match self {
            GgmlType::F32 => Some((1, 4)),
            GgmlType::F16 | GgmlType::BF16 => Some((1, 2)),
            GgmlType::I8 => Some((1, 1)),
            GgmlType::Q8_0 => Some((32, 34)),
            GgmlType::Other(_) => None,
        }
    }

    /// The engine's element type; `None` if the engine has none (Q8_0 and others).
    pub const fn dtype(self) -> Option<DType> {
        match self {
            GgmlType::F32 => Some(DType::F32),
            GgmlType::F16 => Some(DType::F16),
            GgmlType::BF16 => Some(DType::BF16),
            GgmlType::I8 => Some(DType::I8),
            GgmlType::Q8_0 | GgmlType::Other(_) => None,
        }
    }
}

impl From<DType> for GgmlType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => GgmlType::F32,
            DType::F16 => GgmlType::F16,
            DType::BF16 => GgmlType::BF16,
            DType::I8 => GgmlType::I8,
            // ggml has no unsigned type; the bits fit its I32.
            DType::U32 => GgmlType::Other(26),
        }
    }
}

impl core::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            GgmlType::F32 => f.write_str("F32"),
            GgmlType::F16 => f.write_str("F16"),
            GgmlType::BF16 => f.write_str("BF16"),
            GgmlType::I8 => f.write_str("I8"),
            GgmlType::Q8_0 => f.write_str("Q8_0"),
            GgmlType::Other(code) => write!(f, "ggml type {code}"),
        }
    }
}

/// Up to four dimensions, outermost first, as PyTorch prints a shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dims {
    dims: [usize; 4],
    rank: u8,
}

impl Dims {
    /// The dimensions; empty for a scalar.
    pub fn as_slice(&self) -> &[usize] {
        self.dims.get(..usize::from(self.rank)).unwrap_or(&[])
    }

    /// Number of elements, 1 for a scalar. Cannot overflow: `parse` checked it.
    pub fn elements(&self) -> usize {
        self.as_slice().iter().fold(1, |n, &d| n.wrapping_mul(d))
    }
}

impl core::ops::Deref for Dims {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        self.as_slice()
    }
}

/// One tensor of the file.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// Name, at most 64 bytes.
    pub name: &'a str,
    /// Element type.
    pub ggml_type: GgmlType,
    /// Dimensions, outermost first. (GGUF itself stores the innermost first.)
    pub dims: Dims,
    /// Offset of the data from the start of the file, in bytes.
    pub offset: u64,
    /// The data; empty if the type is [`GgmlType::Other`].
    pub data: &'a [u8],
}

/// A checked GGUF file.
#[derive(Clone, Copy, Debug)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    metadata: Cursor<'a>,
    metadata_count: u64,
    infos: Cursor<'a>,
    tensor_count: u64,
    alignment: u64,
    data_start: u64,
}

impl<'a> Gguf<'a> {
    /// Size of the file in bytes.
    pub const fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Checks the whole header of `bytes`, which must be a complete file.
    ///
    /// # Errors
    /// [`GgufError`], naming the wrong field, key or tensor.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut c = Cursor::new(bytes);
        if c.take(4).ok() != Some(b"GGUF") {
            return Err(GgufError::NotGguf);
        }
        match c.u32().map_err(short("the version"))? {
            3 => {}
            v if v.swap_bytes() == 3 => return Err(GgufError::BigEndian),
            v => return Err(GgufError::Version(v)),
        }
        let tensor_count = c.u64().map_err(short("the tensor count"))?;
        let metadata_count = c.u64().map_err(short("the metadata count"))?;
        bound("the metadata count", metadata_count, MAX_METADATA, c.remaining() / MIN_METADATA_BYTES)?;
        bound("the tensor count", tensor_count, MAX_TENSORS, c.remaining() / MIN_TENSOR_BYTES)?;

        let mut gguf = Gguf {
            bytes,
            metadata: c,
            metadata_count,
            infos: c,
            tensor_count,
            alignment: DEFAULT_ALIGNMENT,
            data_start: 0,
        };
        gguf.infos = gguf.check_metadata()?;
        if let Some(value) = gguf.value(keys::ALIGNMENT) {
            let wanted = GgufError::KeyType { key: cut(keys::ALIGNMENT), wanted: "u32" };
            gguf.alignment = value.as_u32().ok_or(wanted)?.into();
            if !gguf.alignment.is_power_of_two() {
                return Err(GgufError::Alignment(gguf.alignment));
            }
        }
        gguf.check_tensors()?;
        Ok(gguf)
    }

    /// Reads every entry once; returns the cursor after the last.
    fn check_metadata(&self) -> Result<Cursor<'a>, GgufError> {
        let (mut c, mut strings) = (self.metadata, 0u64);
        for _ in 0..self.metadata_count {
            let (key, value) = entry(&mut c)?;
            if key.is_empty() {
                return Err(GgufError::DuplicateKey(cut(key)));
            }
            if let Value::Array(array) = value
                && array.element_type() == ValueType::String
            {
                strings = strings.saturating_add(array.len());
            }
            bound("the number of strings", strings, value::MAX_STRINGS, u64::MAX)?;
            bound("the length of the metadata", c.offset(), value::MAX_BYTES, u64::MAX)?;
        }
        match repeated(self.metadata_count, self.metadata().map(|(key, _)| key)) {
            Some(key) => Err(GgufError::DuplicateKey(cut(key))),
            None => Ok(c),
        }
    }

    /// Reads every tensor entry once and places the data section.
    fn check_tensors(&mut self) -> Result<(), GgufError> {
        let mut c = self.infos;
        for _ in 0..self.tensor_count {
            let raw = RawInfo::read(&mut c)?;
            if raw.name.is_empty() {
                return Err(GgufError::DuplicateTensor(cut(raw.name)));
            }
        }
        if let Some(name) = repeated(self.tensor_count, self.raw_infos().map(|raw| raw.name)) {
            return Err(GgufError::DuplicateTensor(cut(name)));
        }
        let overflow = GgufError::TooMany { field: "general.alignment", count: self.alignment };
        self.data_start = checked::align_up(c.offset(), self.alignment).ok_or(overflow)?;

        // Files list their tensors in the order of their data (ggml insists on it), so one pass proves that no two
        // tensors share bytes.
        let mut free = 0u64;
        for raw in self.raw_infos() {
            let len = raw.byte_len().unwrap_or(0);
            if !raw.offset.is_multiple_of(self.alignment) {
                return Err(GgufError::Misaligned { tensor: cut(raw.name), offset: raw.offset });
            }
            if raw.offset < free {
                return Err(GgufError::Overlap { tensor: cut(raw.name) });
            }
            let start = self.data_start.checked_add(raw.offset);
            if start.and_then(|start| checked::range(self.bytes, start, len)).is_none() {
                return Err(GgufError::OutOfFile { tensor: cut(raw.name), offset: raw.offset });
            }
            free = raw.offset.saturating_add(len);
        }
        Ok(())
    }

    /// Alignment of tensor data in bytes.
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Offset of the first tensor's data from the start of the file, in bytes.
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of tensors.
    pub const fn tensor_count(&self) -> usize {
        self.tensor_count as usize
    }

    /// Keys and values in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + Clone + use<'a> {
        let mut c = self.metadata;
        (0..self.metadata_count).map_while(move |_| entry(&mut c).ok())
    }

    /// Tensors in file order, including those of unsupported types.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'a>> + Clone + use<'a> {
        let (bytes, data_start) = (self.bytes, self.data_start);
        self.raw_infos().map(move |raw| raw.place(bytes, data_start))
    }

    fn raw_infos(&self) -> impl Iterator<Item = RawInfo<'a>> + Clone + use<'a> {
        let mut c = self.infos;
        (0..self.tensor_count).map_while(move |_| RawInfo::read(&mut c).ok())
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`]; [`GgufError::TensorType`] if its type cannot be read.
    pub fn tensor(&self, name: &str) -> Result<TensorInfo<'a>, GgufError> {
        let raw = self.raw_infos().find(|raw| raw.name == name);
        let raw = raw.ok_or_else(|| GgufError::MissingTensor(cut(name)))?;
        match raw.ggml_type {
            GgmlType::Other(code) => Err(GgufError::TensorType { tensor: cut(name), code }),
            _ => Ok(raw.place(self.bytes, self.data_start)),
        }
    }

    /// The value of `key`, if the file has it.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.metadata().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn string(&self, key: &str) -> Result<&'a str, GgufError> {
        self.convert(key, "string", Value::as_str)
    }

    /// The integer at `key`, of any integer type, if it fits.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.convert(key, "u32", Value::as_u32)
    }

    /// The integer at `key`, of any integer type, if it is not negative.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.convert(key, "u64", Value::as_u64)
    }

    /// The number at `key`, from f32 or f64.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.convert(key, "f32", Value::as_f32)
    }

    /// The Boolean at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.convert(key, "Boolean", Value::as_bool)
    }

    /// The array at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn array(&self, key: &str) -> Result<Array<'a>, GgufError> {
        self.convert(key, "array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    /// The strings of the string array at `key`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::KeyType`].
    pub fn strings(&self, key: &str) -> Result<impl Iterator<Item = &'a str> + Clone + use<'a>, GgufError> {
        self.convert(key, "string array", |value| match value {
            Value::Array(array) if array.element_type() == ValueType::String => {
                Some(array.iter().filter_map(Value::as_str))
            }
            _ => None,
        })
    }

    fn convert<T>(
        &self,
        key: &str,
        wanted: &'static str,
        convert: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<T, GgufError> {
        let value = self.value(key).ok_or_else(|| GgufError::MissingKey(cut(key)))?;
        convert(value).ok_or_else(|| GgufError::KeyType { key: cut(key), wanted })
    }
}

/// A tensor entry as stored, before its data are placed.
#[derive(Clone, Copy)]
struct RawInfo<'a> {
    name: &'a str,
    ggml_type: GgmlType,
    dims: Dims,
    /// From the start of the data section.
    offset: u64,
}

impl<'a> RawInfo<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, GgufError> {
        let mut probe = *c;
        let len = probe.u64().map_err(short("a tensor name"))?;
        if len > MAX_NAME {
            return Err(GgufError::NameLength(len));
        }
        let name = value::string(c).map_err(|fault| fault.named(Name::new(), "a tensor name"))?;
        let rank = c.u32().map_err(short("a tensor's rank"))?;
        if rank > 4 {
            return Err(GgufError::Rank { tensor: cut(name), rank });
        }
        let mut innermost_first = [1u64; 4];
        for dim in innermost_first.iter_mut().take(rank as usize) {
            *dim = c.u64().map_err(short("a tensor's dimensions"))?;
        }
        let ggml_type = GgmlType::from_code(c.u32().map_err(short("a tensor's type"))?);
        let offset = c.u64().map_err(short("a tensor's offset"))?;

        let impossible = || GgufError::Dims { tensor: cut(name) };
        let dims = Self::dims(&innermost_first, rank as usize).ok_or_else(impossible)?;
        if let Some((block, block_bytes)) = ggml_type.block() {
            // Rows are stored in whole blocks.
            let [row, ..] = innermost_first;
            checked::byte_len(row, block, block_bytes).ok_or_else(impossible)?;
        }
        let info = RawInfo { name, ggml_type, dims, offset };
        if ggml_type.block().is_some() && info.byte_len().is_none() {
            return Err(impossible());
        }
        Ok(info)
    }

    /// Reverses the stored order; `None` for a zero dimension or a count that this machine cannot address.
    fn dims(innermost_first: &[u64; 4], rank: usize) -> Option<Dims> {
        let total = checked::elements(innermost_first)?;
        if total == 0 || isize::try_from(total).is_err() {
            return None;
        }
        let mut dims = Dims { dims: [1; 4], rank: u8::try_from(rank).ok()? };
        let stored = innermost_first.iter().take(rank).rev();
        for (dim, &from) in dims.dims.iter_mut().zip(stored) {
            *dim = usize::try_from(from).ok()?;
        }
        Some(dims)
    }

    /// Bytes of the data; `None` if the type is unknown or the size overflows.
    fn byte_len(&self) -> Option<u64> {
        let (block, block_bytes) = self.ggml_type.block()?;
        checked::byte_len(self.dims.elements() as u64, block, block_bytes)
    }

    fn place(self, bytes: &'a [u8], data_start: u64) -> TensorInfo<'a> {
        let offset = data_start.saturating_add(self.offset);
        let data = self.byte_len().and_then(|len| checked::range(bytes, offset, len)).unwrap_or(&[]);
        TensorInfo { name: self.name, ggml_type: self.ggml_type, dims: self.dims, offset, data }
    }
}

/// A key and its value.
fn entry<'a>(c: &mut Cursor<'a>) -> Result<(&'a str, Value<'a>), GgufError> {
    let key = value::string(c).map_err(|fault| fault.named(Name::new(), "a metadata key"))?;
    let value = value::typed(c).map_err(|fault: Fault| fault.named(cut(key), "a metadata value"))?;
    Ok((key, value))
}

/// Names the field in which the file ended.
fn short(field: &'static str) -> impl Fn(Short) -> GgufError {
    move |Short { offset }| GgufError::Truncated { field, offset }
}

/// Checks a count against a fixed limit and against the number that the remaining bytes could hold.
fn bound(field: &'static str, count: u64, limit: u64, room: u64) -> Result<(), GgufError> {
    if count > limit || count > room { Err(GgufError::TooMany { field, count }) } else { Ok(()) }
}

/// Returns a name that occurs twice, if any. Names are compared by 64-bit hashes, of which as many are kept at a time
/// as a small stack holds: the names are walked once for each [`PART`] of them.
///
/// A name that only shares its hash with another counts as well, and so does one of many with like hashes. Neither
/// happens by accident.
fn repeated<'a>(count: u64, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    /// Hashes that are kept at a time, on average.
    const PART: u64 = 32;
    let parts = count.div_ceil(PART);
    (0..parts).find_map(|part| {
        let mut seen = heapless::Vec::<u64, { 3 * PART as usize }>::new();
        names.clone().find(|name| {
            let hash = hash(name);
            ((hash >> 32) * parts) >> 32 == part && (seen.contains(&hash) || seen.push(hash).is_err())
        })
    })
}

/// FNV-1a, then MurmurHash3's finalizer, so that the upper half depends on every byte too.
fn hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests;
