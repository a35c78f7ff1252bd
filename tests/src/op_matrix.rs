//! One test body for every backend: compares each kernel with its f64 reference on random inputs.
//!
//! A case is a descriptor, the bytes of both regions, and a tolerance for each output. Outputs are poisoned first; the
//! numbers depend on a seed and the case's name. `DENOIR_SEED` sets the seed. `DENOIR_CASE` runs only the cases whose
//! name contains a word, `DENOIR_CASES` at most this many cases per kernel, which the seed chooses, and `DENOIR_ROW`
//! only the rows whose name contains one of these comma-separated words. A word that matches nothing fails.

pub mod backends;
mod case;
pub mod cases;
pub mod draw;
mod guarded;
pub mod parts;
mod seed;
mod table;

pub use case::{Case, Output, Sums, Tolerance, elements};
pub use guarded::Edge;
pub use seed::{base_seed, hash};
pub use table::Table;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::Instant;

use denoir_core::cpu::Isa;

use backends::Row;
use seed::{FNV_START, SEED, fnv};
use table::Plan;

/// Number of failures printed in full; the rest are counted.
const SHOWN: usize = 8;

/// Up to `count` cases of a kernel, spread over its table, for tests of something else.
pub fn drawn(kernel: &str, count: usize) -> Vec<Case> {
    spread(kernel, count, base_seed())
}

fn spread(kernel: &str, count: usize, seed: u64) -> Vec<Case> {
    let plans = cases::of(kernel).0;
    let every = plans.len().div_ceil(count).max(1);
    plans.iter().step_by(every).map(|plan| plan.draw(seed)).collect()
}

/// The hash of everything that a kernel of the scalar instruction set writes in up to `count` cases, whatever
/// `DENOIR_SEED` and `DENOIR_ROW` are.
///
/// # Panics
/// Where a case fails.
pub fn scalar_hash(kernel: &str, count: usize) -> u64 {
    let rows = backends::cpu(Isa::SCALAR);
    let mut hash = FNV_START;
    for case in spread(kernel, count, SEED) {
        let able = rows.iter().filter(|row| case.op.missing_form(&row.forms).is_none());
        for run in able.filter_map(|row| row.runs(kernel)) {
            let after = run(&case).unwrap_or_else(|e| panic!("{kernel}: {e}"));
            for Output { view, .. } in &case.outputs {
                hash = elements(view).fold(hash, |hash, at| fnv(hash, &after[at..at + view.dtype.size()]));
            }
        }
    }
    hash
}

/// Runs every case of a kernel on every row, a case to a processor at a time, and prints the worst differences.
///
/// # Panics
/// Where a case fails, or none ran.
pub fn run(kernel: &str) {
    let (seed, start, rows) = (base_seed(), Instant::now(), backends::rows());
    let only = std::env::var("DENOIR_CASE").unwrap_or_default();
    let most =
        std::env::var("DENOIR_CASES").map_or(NonZeroUsize::MAX, |n| n.parse().expect("DENOIR_CASES counts from 1"));
    let plans: Vec<Plan> = cases::of(kernel).0.into_iter().filter(|plan| plan.name.contains(&only)).collect();
    let there = plans.len();
    let plans = sample(plans, most.get(), seed);
    let left = Mutex::new(plans.iter().enumerate());
    let next = || left.lock().expect("no other thread panicked").next();
    let all = Mutex::new((BTreeMap::new(), Worst::new()));
    let work = || {
        while let Some((n, plan)) = next() {
            let (failures, shares) = run_case(&plan.draw(seed), &rows);
            let mut all = all.lock().expect("no other thread panicked");
            all.0.insert(n, failures.into_iter().map(|what| format!("{kernel}: {}: {what}", plan.name)));
            for (row, share) in shares {
                let entry = all.1.entry(row.to_owned()).or_insert_with(|| (share, plan.name.clone()));
                if share > entry.0 {
                    *entry = (share, plan.name.clone());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(1, NonZeroUsize::get)).for_each(|_| drop(scope.spawn(work)));
    });
    let (failed, worst) = all.into_inner().expect("no thread panicked");
    let (ran, failed) = (plans.len(), failed.into_values().flatten().collect::<Vec<_>>());
    println!("{kernel}: {ran} of {there} cases in {:.1} s, seed {seed:#x}", start.elapsed().as_secs_f64());
    for (row, (share, name)) in rows.iter().filter_map(|row| Some((&row.name, worst.get(&row.name)?))) {
        println!("{kernel}: {row}: at most {:.0}% of what is allowed ({name})", share * 100.0);
    }
    assert!(ran > 0, "{kernel}: no case ran; DENOIR_CASE={only:?} is in no name");
    let shown = failed.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} failures in {ran} cases; DENOIR_SEED={seed:#x}\n{shown}", failed.len());
}

/// Up to `most` cases, which the seed chooses: every so many of a table would meet few pairs of two sizes.
fn sample(mut plans: Vec<Plan>, most: usize, seed: u64) -> Vec<Plan> {
    if most < plans.len() {
        plans.sort_by_cached_key(|plan| hash(&format!("{seed} {}", plan.name)));
        plans.truncate(most);
    }
    plans
}

/// The failures of a case on these rows.
pub fn failures(case: &Case, rows: &[Row]) -> Vec<String> {
    run_case(case, rows).0
}

/// By row: the largest difference as a share of the tolerance, and its case.
type Worst = HashMap<String, (f64, String)>;

/// The failures of a case, and by row the largest difference as a share of the tolerance.
fn run_case<'a>(case: &Case, rows: &'a [Row]) -> (Vec<String>, Vec<(&'a str, f64)>) {
    let want = match case.reference() {
        Ok(want) => want,
        Err(e) => return (vec![format!("reference: {e}")], Vec::new()),
    };
    let (mut failures, mut shares) = (Vec::new(), Vec::new());
    if let Err(e) = case.compare(want.clone(), want.clone(), Sums::Rounded) {
        failures.push(format!("reference: {e}"));
    }
    let mut first: HashMap<&str, (&str, Vec<u8>)> = HashMap::new();
    let rows = rows.iter().filter(|row| case.op.missing_form(&row.forms).is_none());
    let rows = rows.filter(|row| !row.aligned || case.aligned());
    for (row, run) in rows.filter_map(|row| Some((row, row.runs(case.op.name())?))) {
        let result = run(case).and_then(|got| {
            shares.push((row.name.as_str(), case.compare(got.clone(), want.clone(), row.sums)?));
            let (twin, bytes) = first.entry(&row.same_bytes).or_insert_with(|| (&row.name, got.clone()));
            if *bytes == got { Ok(()) } else { Err(format!("other bytes than on {twin}")) }
        });
        failures.extend(result.err().map(|e| format!("{}: {e}", row.name)));
    }
    (failures, shares)
}
