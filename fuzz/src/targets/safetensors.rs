//! A safetensors file, or an index of shards.

use denoir_convert::parts;

use super::torch::{DTYPES, convert};

pub(crate) fn run(input: &[u8]) {
    if let Ok(shards) = parts::shards(input) {
        assert!(!shards.is_empty());
        for shard in shards {
            assert!(
                !shard.contains(['/', '\\', '\0']) && shard != "..",
                "a shard lies in the index's folder: {shard:?}"
            );
        }
    }
    convert(input, DTYPES[input.len() % DTYPES.len()]);
}
