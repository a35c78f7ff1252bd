//! Configuration files: YAML and JSON of a network, and both files of a text encoder's folder.

use denoir_convert::{Config, parts};

/// Rows of an embedding.
const ROWS: u32 = 300;

pub(crate) fn run(input: &[u8]) {
    if let Err(e) = Config::parse(input) {
        assert!(!e.to_string().is_empty());
    }
    for read in [parts::text_encoder(input), parts::vocabulary(input, ROWS)] {
        if let Err(e) = read {
            assert!(!e.to_string().is_empty());
        }
    }
}
