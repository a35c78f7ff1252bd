//! A long soak: `soak [DRAWS [ROUNDS]]`, 10,000 and 1,000 if not given. Results belong in `benches/record/soak.md`.

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse());
    let draws = numbers.next().transpose()?.unwrap_or(10_000);
    let rounds = numbers.next().transpose()?.unwrap_or(1_000);
    common::soak::soak(draws, rounds)
}
