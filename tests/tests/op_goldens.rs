//! The references and every backend against what PyTorch computes: `fixtures/ops`.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, ensure};
use denoir_core::DType;
use denoir_core::ops::Op;
use denoir_golden::{Fixture, op};
use denoir_tests::golden::of_limit;
use denoir_tests::op_matrix::draw::Draw;
use denoir_tests::op_matrix::{Sums, Tolerance, backends, base_seed};

/// The least limit where eight products of bf16 factors are added up in f16, which gives 3.7e-4 (measured) where rounding
/// one factor to bf16 gives 1.6e-3.
const PACKED: f64 = 1e-3;

#[test]
fn every_golden_is_met() -> Result<()> {
    let rows = backends::rows();
    let mut cases = 0usize;
    let files = denoir_tests::fixtures().join("ops").read_dir()?;
    for path in files.map(|entry| Ok(entry?.path())).collect::<Result<BTreeSet<_>>>()? {
        let fixture = Fixture::open(&path)?;
        let kernel = fixture.parameter("op")?;
        if kernel == op::NO_KERNEL {
            continue;
        }
        for name in fixture.parameter("cases")?.split(',') {
            let at = format!("{kernel}: {name}");
            let mut draw = Draw::new(base_seed());
            let (op, wanted) = op::kernel(&fixture, name, &mut draw).context(at.clone())?;
            let exact = Tolerance::exact("compared here");
            let case = draw.finish(op, wanted.iter().map(|(_, view)| (*view, exact)).collect::<Vec<_>>());
            meets(&fixture, name, &case.reference().map_err(Error::msg)?, &wanted, 0.0).context(at.clone())?;
            let bf16 = matches!(&case.op, Op::Linear(op) if op.x.dtype == DType::BF16);
            for (row, run) in rows.iter().filter_map(|row| Some((row, row.runs(kernel)?))) {
                let after = run(&case).map_err(Error::msg)?;
                let least = if bf16 && row.sums == Sums::Packed { PACKED } else { 0.0 };
                let met = meets(&fixture, name, &after, &wanted, least);
                println!("{at} on {}: {}", row.name, met.with_context(|| format!("{at} on {}", row.name))?);
            }
            cases += 1;
        }
    }
    ensure!(cases >= 30, "only {cases} goldens");
    Ok(())
}

/// The largest error of the outputs as a share of its limit, which is at least `least`, in words.
fn meets(fixture: &Fixture, name: &str, after: &[u8], wanted: &op::Outputs, least: f64) -> Result<String> {
    let mut checks = op::check(fixture, name, after, wanted)?;
    checks.iter_mut().for_each(|check| check.limit = check.limit.max(least));
    for check in &checks {
        ensure!(check.passed(), "{} is off by {:.1e}, more than {:.1e}", check.name, check.error, check.limit);
    }
    let limit = checks.iter().map(|check| check.limit).fold(0.0, f64::max);
    Ok(of_limit(checks.iter().map(|check| check.error).fold(0.0, f64::max), limit))
}
