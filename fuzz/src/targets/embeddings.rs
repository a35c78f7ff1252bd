//! A file of prompt embeddings, as `denoir generate --prompt-embeds` reads it.

#[path = "../../../cli/src/embeddings.rs"]
mod file;

/// Tokens and widths of networks.
const SIZES: [(usize, usize); 3] = [(2, 3), (4, 1), (1, 64)];

pub(crate) fn run(input: &[u8]) {
    for (tokens, width) in SIZES {
        match file::parse(input, (tokens, width)) {
            Ok(embeds) => {
                assert_eq!((embeds.prompt.len(), embeds.negative.len()), (tokens * width, tokens * width));
            }
            Err(what) => assert!(!what.is_empty()),
        }
    }
}
