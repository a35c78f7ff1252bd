//! `noise`: compares the starting noise bit for bit.

use denoir::Rng;
use denoir::core::DType;
use sha2::{Digest, Sha256};

use crate::check::{Check, Verdict};
use crate::error::Error;
use crate::fixture::Fixture;

pub(crate) fn verify(fixture: &Fixture) -> Result<Verdict, Error> {
    let mut checks = Vec::new();
    for name in fixture.names() {
        let Some((seed, count)) = name.strip_prefix("noise.").and_then(|rest| rest.split_once('.')) else { continue };
        let want = fixture.typed(name, DType::F32)?;
        let got = draw(fixture, seed, count)?;
        checks.push(Check::equal(name, &got, &want.bytes));
    }
    let mut hashes: Vec<(&str, &str)> = fixture.parameters().filter(|(name, _)| name.starts_with("sha256.")).collect();
    hashes.sort_unstable();
    for (name, want) in hashes {
        let Some((seed, shape)) = name["sha256.".len()..].split_once('.') else { continue };
        let got = Sha256::digest(draw(fixture, seed, shape)?);
        let got: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
        checks.push(Check::equal(name, &[got.as_str()], &[want]));
    }
    Ok(Verdict::Checked(checks))
}

/// The draw of a seed, little-endian; `shape` is the number of values, or dimensions with `x` between them.
fn draw(fixture: &Fixture, seed: &str, shape: &str) -> Result<Vec<u8>, Error> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| fixture.error(&format!("{text:?} is no number")));
    let mut count = 1u64;
    for dim in shape.split('x') {
        count = count.saturating_mul(number(dim)?);
    }
    // No fixture is larger than a picture of 4096 pixels a side.
    let count =
        usize::try_from(count).ok().filter(|&n| n <= 3 << 24).ok_or_else(|| fixture.error("too many values"))?;
    let mut values = vec![0.0; count];
    Rng::Torch.fill(number(seed)?, &mut values);
    Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
}
