//! A host that runs for long: its memory, threads and descriptors stay as they are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use denoir_capi::denoir_model_open;
use denoir_capi::denoir_status::DENOIR_OK;

use super::{Host, TINY};

/// Growth of resident memory that counts as none.
const SLACK: u64 = 1 << 20;

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of resident memory.
    pub memory: u64,
    pub threads: usize,
    pub descriptors: usize,
}

impl Held {
    /// # Errors
    /// Where the system does not tell.
    pub fn now() -> Result<Held> {
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        let count = |folder: &str| Ok::<_, std::io::Error>(fs::read_dir(folder)?.count());
        Ok(Held { memory: kilobytes << 10, threads: count("/proc/self/task")?, descriptors: count("/proc/self/fd")? })
    }
}

/// Draws on one pipeline, then opens and closes in rounds; in both, after a first tenth nothing may grow.
///
/// # Errors
/// What grew.
pub fn soak(draws: usize, rounds: usize) -> Result<()> {
    let host = Host::new(TINY, 2);
    let picture = host.draw();
    steady("drawing", draws, &mut || {
        ensure!(host.draw() == picture, "another picture");
        Ok(())
    })?;
    drop(host);
    steady("opening", rounds, &mut || {
        let (mut host, opened) = Host::open(Path::new(TINY), denoir_model_open);
        ensure!(opened == DENOIR_OK && host.prepare(2) == DENOIR_OK, "{}", host.message());
        ensure!(host.draw() == picture, "another picture");
        Ok(())
    })
}

fn steady(what: &str, times: usize, once: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let warm = times.div_ceil(10);
    (0..warm).try_for_each(|_| once())?;
    let before = Held::now()?;
    let start = std::time::Instant::now();
    (warm..times).try_for_each(|_| once())?;
    let after = Held::now()?;
    println!(
        "{what}: {times} times, {:.0} s; memory {:.2} MiB after {warm}, {:.2} MiB at the end; {} threads, {} descriptors",
        start.elapsed().as_secs_f64(),
        before.memory as f64 / f64::from(1 << 20),
        after.memory as f64 / f64::from(1 << 20),
        after.threads,
        after.descriptors
    );
    ensure!(after.memory <= before.memory + SLACK, "{what}: memory grew from {} to {}", before.memory, after.memory);
    ensure!(
        (after.threads, after.descriptors) == (before.threads, before.descriptors),
        "{what}: {before:?}, {after:?}"
    );
    Ok(())
}
