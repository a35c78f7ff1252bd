//! Seeds and hashes.

/// The seed of the fixed runs.
pub(super) const SEED: u64 = 0xD3_2017;

/// `DENOIR_SEED`, decimal or 0x, or the one that the fixed runs use.
///
/// # Panics
/// Where it is no number.
pub fn base_seed() -> u64 {
    let Ok(text) = std::env::var("DENOIR_SEED") else { return SEED };
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.unwrap_or_else(|_| panic!("DENOIR_SEED is no number: {text}"))
}

/// FNV-1a, so that a case's numbers do not depend on its place in the table.
pub fn hash(name: &str) -> u64 {
    fnv(FNV_START, name.as_bytes())
}

pub(super) const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}
