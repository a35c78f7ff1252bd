//! Metadata values as text and as JSON.

use denoir::core::gguf::Value;
use serde_json::{Value as Json, json};

use crate::text::one_line;

/// Number of array elements shown.
const SHOWN: usize = 4;
/// Number of characters of a string shown.
const LETTERS: usize = 100;

/// A short form of a value.
pub(super) fn short(value: Value<'_>) -> String {
    match value {
        Value::String(s) => string(s),
        Value::Array(array) => {
            let first: Vec<String> = array.iter().take(SHOWN).map(short).collect();
            let more = if array.len() > SHOWN as u64 { ", ..." } else { "" };
            format!("{} values [{}{more}]", array.len(), first.join(", "))
        }
        other => json(other).to_string(),
    }
}

fn string(s: &str) -> String {
    match s.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}...", one_line(&s[..end])),
        None => one_line(s),
    }
}

/// The whole value. JSON has no infinities: they become null.
pub(super) fn json(value: Value<'_>) -> Json {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::F32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::Array(array) => array.iter().map(json).collect(),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F64(v) => json!(v),
    }
}
