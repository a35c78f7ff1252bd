//! Standard output, which may be a closed pipe or a full disk.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::Error;
use crate::text::{is_harmless, one_line};

/// Writes all of `bytes`.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    send(|out| out.write_all(bytes))
}

/// Writes lines of text, whatever they quote from files.
pub(crate) fn text(lines: &str) -> Result<(), Error> {
    send(|out| lines.split_inclusive('\n').try_for_each(|line| write_line(out, line)))
}

/// Writes a line, with its end where it has one.
fn write_line(out: &mut dyn Write, line: &str) -> io::Result<()> {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    out.write_all(one_line(text).as_bytes())?;
    out.write_all(end.as_bytes())
}

/// Writes one JSON value, indented.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    send(|out| {
        write_json(value, out)?;
        out.write_all(b"\n")
    })
}

/// A reader that closes the pipe early (`| head`) is not an error.
fn send(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::Stdout(e)),
        _ => {
            // Nothing is left to write, or nobody reads it.
            let _ = out.into_parts();
            Ok(())
        }
    }
}

fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(out, Harmless(PrettyFormatter::new()));
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// Writes what a terminal would obey or hide as escapes; only strings can hold it.
struct Harmless(PrettyFormatter<'static>);

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !is_harmless(c)) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let len = from.chars().next().map_or(0, char::len_utf8);
            let (hidden, after) = from.split_at(len);
            hidden.encode_utf16().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            rest = after;
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({ "a\u{9b}": ["\x1b]0;\u{7f}\u{202e}\n", "\u{e0041}\u{200b}é"], "b": 1.5 });
        let mut text = Vec::new();
        write_json(&value, &mut text).expect("a vector takes all");
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        assert!(text.chars().all(|c| c == '\n' || is_harmless(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }
}
