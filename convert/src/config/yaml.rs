//! Parses YAML into a JSON tree. This module builds the tree from the parser's events, so that its size is bounded even
//! with aliases.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::error::ConfigError;

/// Maximum size of the tree, including what aliases repeat: see [`size`].
const MAX_SIZE: usize = 50_000;
/// Bytes of text that count as one more value.
const TEXT: usize = 64;
/// Maximum depth of nesting.
const MAX_DEPTH: usize = 64;

/// A container under construction, the anchor that names it (0: none), and a mapping's pending key.
enum Open {
    Sequence(Vec<Value>, usize),
    Mapping(Map<String, Value>, Option<String>, usize),
}

struct Builder {
    open: Vec<Open>,
    /// What anchors name, with its size.
    anchors: HashMap<usize, (Value, usize)>,
    size: usize,
    root: Option<Value>,
}

/// The first document of `text`.
pub(super) fn parse(text: &str) -> Result<Value, ConfigError> {
    let mut builder = Builder { open: Vec::new(), anchors: HashMap::new(), size: 0, root: None };
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| ConfigError::Syntax(e.to_string()))?;
        builder.event(event)?;
        if builder.root.is_some() {
            break;
        }
    }
    builder.root.ok_or(ConfigError::NotAMapping)
}

impl Builder {
    fn event(&mut self, event: Event<'_>) -> Result<(), ConfigError> {
        match event {
            Event::Scalar(text, style, anchor, _) => self.finish(scalar(&text, style), anchor),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let (value, size) =
                    known.ok_or_else(|| ConfigError::Syntax("an alias inside its own anchor".into()))?;
                let (value, size) = (value.clone(), *size);
                self.count(size)?;
                self.finish(value, 0)
            }
            Event::SequenceStart(anchor, _) => self.start(Open::Sequence(Vec::new(), anchor)),
            Event::MappingStart(anchor, _) => self.start(Open::Mapping(Map::new(), None, anchor)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(items, anchor)) => self.finish(Value::Array(items), anchor),
                Some(Open::Mapping(map, None, anchor)) => self.finish(Value::Object(map), anchor),
                _ => Err(ConfigError::Syntax("a key without a value".into())),
            },
            _ => Ok(()),
        }
    }

    fn count(&mut self, size: usize) -> Result<(), ConfigError> {
        self.size = self.size.saturating_add(size);
        if self.size > MAX_SIZE { Err(ConfigError::Syntax("too many values".into())) } else { Ok(()) }
    }

    fn start(&mut self, open: Open) -> Result<(), ConfigError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(ConfigError::Syntax("nested too deeply".into()));
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a finished value to its container.
    fn finish(&mut self, value: Value, anchor: usize) -> Result<(), ConfigError> {
        self.count(1)?;
        if anchor != 0 {
            let size = size(&value);
            self.count(size)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence(items, _)) => items.push(value),
            Some(Open::Mapping(map, pending, _)) => match pending.take() {
                Some(key) => {
                    if map.insert(key, value).is_some() {
                        return Err(ConfigError::Syntax("a key occurs twice".into()));
                    }
                }
                None => *pending = Some(key_text(value)?),
            },
        }
        Ok(())
    }
}

/// A mapping's key as text.
fn key_text(value: Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(_) | Value::Object(_) => Err(ConfigError::Syntax("a key is not a scalar".into())),
        scalar => Ok(scalar.to_string()),
    }
}

/// Number of values in a tree; long texts and keys count as several. The tree's depth is bounded by [`MAX_DEPTH`] times
/// the nesting of aliases, and its size by [`MAX_SIZE`], so the recursion is too.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).fold(1, usize::saturating_add),
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() / TEXT + size(value)).fold(1, usize::saturating_add)
        }
        Value::String(text) => 1 + text.len() / TEXT,
        _ => 1,
    }
}

/// A plain scalar by YAML's core schema; a quoted one is text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            if let Ok(int) = text.parse::<i64>() {
                return int.into();
            }
            let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            match text.parse::<f64>() {
                Ok(float) if numeric && float.is_finite() => float.into(),
                _ => Value::String(text.to_owned()),
            }
        }
    }
}
