//! Standard output, which may be a closed pipe or a full disk.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::Error;

/// Writes all of `bytes`. A reader that closes the pipe early (`| head`) is not an error.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::Stdout(e)),
        _ => Ok(()),
    }
}

/// One JSON value, indented.
pub(crate) fn json(value: &Value) -> Result<(), Error> {
    write(format!("{value:#}\n").as_bytes())
}
