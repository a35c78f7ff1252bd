//! The references and every backend against what PyTorch computes: `fixtures/ops`.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, ensure};
use denoir_golden::{Fixture, op};
use denoir_tests::golden::of_limit;
use denoir_tests::op_matrix::draw::Draw;
use denoir_tests::op_matrix::{Tolerance, backends, base_seed};

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
            meets(&fixture, name, &case.reference().map_err(Error::msg)?, &wanted).context(at.clone())?;
            for (row, run) in rows.iter().filter_map(|row| Some((row, row.runs(kernel)?))) {
                let after = run(&case).map_err(Error::msg)?;
                let met = meets(&fixture, name, &after, &wanted);
                println!("{at} on {}: {}", row.name, met.with_context(|| format!("{at} on {}", row.name))?);
            }
            cases += 1;
        }
    }
    ensure!(cases >= 30, "only {cases} goldens");
    Ok(())
}

/// The largest error of the outputs as a share of its limit, in words.
fn meets(fixture: &Fixture, name: &str, after: &[u8], wanted: &op::Outputs) -> Result<String> {
    let checks = op::check(fixture, name, after, wanted)?;
    for check in &checks {
        ensure!(check.passed(), "{} is off by {:.1e}, more than {:.1e}", check.name, check.error, check.limit);
    }
    let limit = checks.iter().map(|check| check.limit).fold(0.0, f64::max);
    Ok(of_limit(checks.iter().map(|check| check.error).fold(0.0, f64::max), limit))
}
