//! Why a GGUF file was refused.

use core::fmt;

/// A key or tensor name in an error, cut to 64 bytes at a character boundary.
pub type Name = heapless::String<64, u8>;

/// Cuts `name` to the length that a [`Name`] holds.
pub(super) fn cut(name: &str) -> Name {
    let mut out = Name::new();
    for c in name.chars() {
        if out.push(c).is_err() {
            break;
        }
    }
    out
}

/// Why a GGUF file, or a lookup in it, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    NotGguf,
    /// The file is in big-endian byte order.
    BigEndian,
    /// The version is not 3.
    Version(u32),
    /// The file ends inside a field.
    Truncated {
        /// The field being read.
        field: &'static str,
        /// Where it starts, in bytes.
        offset: u64,
    },
    /// A count exceeds the limit, or the number that the remaining bytes could hold.
    TooMany {
        /// The counted items.
        field: &'static str,
        /// The count in the file.
        count: u64,
    },
    /// A string is not UTF-8.
    NotUtf8 {
        /// The field being read.
        field: &'static str,
        /// Where the string starts, in bytes.
        offset: u64,
    },
    /// A metadata value has a type code that GGUF does not define, or is an array of arrays.
    ValueType {
        /// The key.
        key: Name,
        /// The type code.
        code: u32,
    },
    /// A Boolean is neither 0 nor 1.
    BadBool {
        /// The key.
        key: Name,
    },
    /// A metadata key occurs twice, or is empty.
    DuplicateKey(Name),
    /// A tensor name occurs twice, or is empty.
    DuplicateTensor(Name),
    /// `general.alignment` is not a power of two.
    Alignment(u64),
    /// A tensor name is longer than 64 bytes.
    NameLength(u64),
    /// A tensor has more than four dimensions.
    Rank {
        /// The tensor.
        tensor: Name,
        /// Its number of dimensions.
        rank: u32,
    },
    /// A dimension is zero, the size overflows, or a row is not a whole number of blocks.
    Dims {
        /// The tensor.
        tensor: Name,
    },
    /// A tensor's data do not start at a multiple of the alignment.
    Misaligned {
        /// The tensor.
        tensor: Name,
        /// Its offset in the data section.
        offset: u64,
    },
    /// A tensor's data start before those of the tensor before it end.
    Overlap {
        /// The tensor.
        tensor: Name,
    },
    /// A tensor's data reach past the end of the file.
    OutOfFile {
        /// The tensor.
        tensor: Name,
        /// Its offset in the data section.
        offset: u64,
    },
    /// The tensor has a ggml type that denoir does not read.
    TensorType {
        /// The tensor.
        tensor: Name,
        /// The ggml type code.
        code: u32,
    },
    /// The file has no such key.
    MissingKey(Name),
    /// The file has no such tensor.
    MissingTensor(Name),
    /// The value of a key has the wrong type, or does not fit.
    KeyType {
        /// The key.
        key: Name,
        /// The requested type.
        wanted: &'static str,
    },
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use GgufError::*;
        match self {
            NotGguf => f.write_str("not a GGUF file: it does not start with \"GGUF\""),
            BigEndian => f.write_str("big-endian GGUF files are not supported"),
            Version(v) => write!(f, "GGUF version {v} is not supported, only version 3"),
            Truncated { field, offset } => {
                write!(f, "the file ends inside {field} at byte {offset}")
            }
            TooMany { field, count } => write!(f, "{field} is {count}: more than the file can hold, or over the limit"),
            NotUtf8 { field, offset } => write!(f, "{field} at byte {offset} is not UTF-8"),
            ValueType { key, code } => write!(f, "metadata key {key:?} has unknown or nested value type {code}"),
            BadBool { key } => write!(f, "metadata key {key:?} holds a Boolean that is neither 0 nor 1"),
            DuplicateKey(key) => write!(f, "metadata key {key:?} occurs twice or is empty"),
            DuplicateTensor(name) => write!(f, "tensor {name:?} occurs twice or has no name"),
            Alignment(a) => write!(f, "general.alignment is {a}, not a power of two"),
            NameLength(len) => write!(f, "a tensor name is {len} bytes long, more than 64"),
            Rank { tensor, rank } => {
                write!(f, "tensor {tensor:?} has {rank} dimensions, more than 4")
            }
            Dims { tensor } => {
                write!(f, "tensor {tensor:?} has impossible dimensions: zero, overflowing, or no whole blocks")
            }
            Misaligned { tensor, offset } => {
                write!(f, "tensor {tensor:?} starts at {offset}, off the alignment")
            }
            Overlap { tensor } => write!(f, "the data of tensor {tensor:?} overlap the tensor before it"),
            OutOfFile { tensor, offset } => {
                write!(f, "the data of tensor {tensor:?} at {offset} reach past the end of the file")
            }
            TensorType { tensor, code } => write!(f, "tensor {tensor:?} has ggml type {code}, which is not supported"),
            MissingKey(key) => write!(f, "metadata key {key:?} is missing"),
            MissingTensor(name) => write!(f, "tensor {name:?} is missing"),
            KeyType { key, wanted } => write!(f, "metadata key {key:?} is not a {wanted}"),
        }
    }
}

impl core::error::Error for GgufError {}
