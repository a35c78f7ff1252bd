//! Standard output, which may be a closed pipe or a full disk.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::Error;
use crate::text::{is_harmless, one_line};

/// Writes all of `bytes`. A reader that closes the pipe early (`| head`) is not an error.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::Stdout(e)),
        _ => Ok(()),
    }
}

/// Writes lines of text, whatever they quote from files.
pub(crate) fn text(lines: &str) -> Result<(), Error> {
    let escaped: Vec<String> = lines.split('\n').map(one_line).collect();
    write(escaped.join("\n").as_bytes())
}

/// One JSON value, indented.
pub(crate) fn json(value: &Value) -> Result<(), Error> {
    write(escaped_json(&format!("{value:#}\n")).as_bytes())
}

/// JSON without the characters that a terminal obeys; only strings can hold them. All are in the first plane.
fn escaped_json(json: &str) -> String {
    let escape = |c: char| if c == '\n' || is_harmless(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    json.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({ "a\u{9b}": "\x1b]0;\u{7f}\u{202e}\n" });
        let text = escaped_json(&format!("{value:#}"));
        assert!(text.chars().all(|c| c == '\n' || is_harmless(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
    }
}
