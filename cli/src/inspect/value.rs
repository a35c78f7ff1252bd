//! Metadata values as text and as JSON.

use std::borrow::Cow;

use denoir::core::gguf::{Gguf, Value};
use serde::{Serialize, Serializer};

use crate::text::{one_line, shortened};

/// Number of array elements shown.
const SHOWN: usize = 4;
/// Number of characters of a string shown.
const LETTERS: usize = 100;

/// A short form of a value.
pub(super) fn short(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::String(s) => one_line(&shortened(s, LETTERS)).into_owned().into(),
        Value::Array(array) => {
            let first: Vec<_> = array.iter().take(SHOWN).map(short).collect();
            let more = if array.len() > SHOWN as u64 { ", ..." } else { "" };
            format!("{} values [{}{more}]", array.len(), first.join(", ")).into()
        }
        other => serde_json::to_string(&Whole(other)).unwrap_or_default().into(),
    }
}

/// All keys and values, which are written as they are read: an array may have millions.
pub(super) struct Metadata<'g>(pub(super) Gguf<'g>);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.metadata().map(|(key, value)| (key, Whole(value))))
    }
}

/// A whole value. JSON has no infinities: they become null.
struct Whole<'g>(Value<'g>);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(v) => v.serialize(to),
            Value::I8(v) => v.serialize(to),
            Value::U16(v) => v.serialize(to),
            Value::I16(v) => v.serialize(to),
            Value::U32(v) => v.serialize(to),
            Value::I32(v) => v.serialize(to),
            Value::F32(v) => v.serialize(to),
            Value::Bool(v) => v.serialize(to),
            Value::String(v) => v.serialize(to),
            Value::Array(array) => to.collect_seq(array.iter().map(Whole)),
            Value::U64(v) => v.serialize(to),
            Value::I64(v) => v.serialize(to),
            Value::F64(v) => v.serialize(to),
        }
    }
}
