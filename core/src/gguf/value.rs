//! Metadata values: scalars, strings and arrays, borrowed from the file.

use super::error::{GgufError, Name};
use crate::checked::{Cursor, Short};

/// Maximum bytes of all metadata, and so of a string or an array. A lookup reads them once.
pub(super) const MAX_BYTES: u64 = 1 << 26;
/// Maximum number of strings in arrays. The largest vocabularies have about 800,000, merges included.
pub(super) const MAX_STRINGS: u64 = 1 << 20;

/// Type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// The type of a GGUF code; `None` if GGUF defines none.
    pub const fn from_code(code: u32) -> Option<Self> {
        use ValueType::*;
        Some(match code {
            0 => U8,
            1 => I8,
            2 => U16,
            3 => I16,
            4 => U32,
            5 => I32,
            6 => F32,
            7 => Bool,
            8 => String,
            9 => Array,
            10 => U64,
            11 => I64,
            12 => F64,
            _ => return None,
        })
    }

    /// Bytes of a scalar; `None` for strings and arrays.
    const fn size(self) -> Option<u64> {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            String | Array => None,
        }
    }
}

/// A metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value as u64, from any integer type, if it is not negative.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as u32, from any integer type, if it fits.
    pub fn as_u32(self) -> Option<u32> {
        self.as_u64()?.try_into().ok()
    }

    /// The value as f32, from f32 or f64.
    pub fn as_f32(self) -> Option<f32> {
        match self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value as a Boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value as a string.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

/// An array of scalars or of strings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: u64,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Type of the elements.
    pub const fn element_type(self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Returns whether there are no elements.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub const fn iter(self) -> Elements<'a> {
        Elements { cursor: Cursor::new(self.bytes), element: self.element, left: self.len }
    }
}

/// Iterator over the elements of an [`Array`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    cursor: Cursor<'a>,
    element: ValueType,
    left: u64,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Validated by `Gguf::parse`, so an error cannot occur; it would end the iteration.
        read(&mut self.cursor, self.element).ok()
    }
}

/// An error in a value, before the key is known.
pub(super) enum Fault {
    Short(Short),
    Utf8(u64),
    Nested,
    Bool,
    TooMany(&'static str, u64),
    Type(u32),
}

impl From<Short> for Fault {
    fn from(short: Short) -> Self {
        Fault::Short(short)
    }
}

impl Fault {
    /// The public error for this fault in the value of `key`, or in `field`.
    pub(super) fn named(self, key: Name, field: &'static str) -> GgufError {
        match self {
            Fault::Short(Short { offset }) => GgufError::Truncated { field, offset },
            Fault::Utf8(offset) => GgufError::NotUtf8 { field, offset },
            Fault::Nested => GgufError::ValueType { key, code: 9 },
            Fault::Type(code) => GgufError::ValueType { key, code },
            Fault::Bool => GgufError::BadBool { key },
            Fault::TooMany(field, count) => GgufError::TooMany { field, count },
        }
    }
}

/// A length-prefixed UTF-8 string.
pub(super) fn string<'a>(c: &mut Cursor<'a>) -> Result<&'a str, Fault> {
    let offset = c.offset();
    let len = c.u64()?;
    let bytes = c.take(len)?;
    if len > MAX_BYTES {
        return Err(Fault::TooMany("a string's length", len));
    }
    core::str::from_utf8(bytes).map_err(|_| Fault::Utf8(offset))
}

/// A value preceded by its type code.
pub(super) fn typed<'a>(c: &mut Cursor<'a>) -> Result<Value<'a>, Fault> {
    let code = c.u32()?;
    read(c, ValueType::from_code(code).ok_or(Fault::Type(code))?)
}

/// A value of a known type.
fn read<'a>(c: &mut Cursor<'a>, ty: ValueType) -> Result<Value<'a>, Fault> {
    Ok(match ty {
        ValueType::U8 => Value::U8(c.u8()?),
        ValueType::I8 => Value::I8(i8::from_le_bytes(c.array()?)),
        ValueType::U16 => Value::U16(c.u16()?),
        ValueType::I16 => Value::I16(i16::from_le_bytes(c.array()?)),
        ValueType::U32 => Value::U32(c.u32()?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(c.array()?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(c.array()?)),
        ValueType::U64 => Value::U64(c.u64()?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(c.array()?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(c.array()?)),
        ValueType::Bool => match c.u8()? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            _ => return Err(Fault::Bool),
        },
        ValueType::String => Value::String(string(c)?),
        ValueType::Array => Value::Array(array(c)?),
    })
}

/// An array whose every element is checked.
fn array<'a>(c: &mut Cursor<'a>) -> Result<Array<'a>, Fault> {
    let code = c.u32()?;
    let element = ValueType::from_code(code).ok_or(Fault::Type(code))?;
    let len = c.u64()?;
    // A string takes at least its own length field.
    let least = match element {
        ValueType::Array => return Err(Fault::Nested),
        other => other.size().unwrap_or(8),
    };
    let limit = if element == ValueType::String { MAX_STRINGS } else { MAX_BYTES };
    let too_many = Fault::TooMany("an array length", len);
    if len > limit || len > c.remaining() / least {
        return Err(too_many);
    }
    let mut probe = *c;
    match element.size() {
        Some(size) if element != ValueType::Bool => probe.skip(len.checked_mul(size).ok_or(too_many)?)?,
        _ => {
            for _ in 0..len {
                read(&mut probe, element)?;
            }
        }
    }
    let bytes = c.take(probe.offset() - c.offset())?;
    Ok(Array { element, len, bytes })
}
