//! What the matrix runs on: one row for each way to run the kernels.

use core::fmt::Debug;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io::Write;
use std::sync::Once;

use denoir::AlignedBytes;
use denoir_core::backend::{self, Backend, Program};
use denoir_core::cpu::{Cpu, Isa};
use denoir_core::{DType, Executor, Region, View};

use super::Case;

/// Runs a case and returns the arena as it is then.
pub type Run = Box<dyn Fn(&Case) -> Result<Vec<u8>, String>>;

/// A way to run the kernels.
pub struct Row {
    /// What failures and summaries call it.
    pub name: String,
    /// Rows of the same word give the same bytes.
    pub same_bytes: String,
    /// How to run it, or why it cannot be run here.
    pub run: Result<Run, String>,
}

/// Every row. A new backend adds its own: open a device, then [`drive`] it.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = ["scalar", "avx2", "avx512"].into_iter().flat_map(cpu).collect();
    for name in ["vulkan", "cuda"] {
        rows.push(Row { name: name.into(), same_bytes: name.into(), run: Err("not in this build".into()) });
    }
    announce(&rows);
    rows
}

/// One CPU instruction set, on one thread and on three.
fn cpu(isa: &'static str) -> [Row; 2] {
    [1, 3].map(|threads| Row {
        name: format!("{isa}/{threads}"),
        same_bytes: isa.into(),
        run: match Isa::from_name(isa) {
            Some(isa) => Ok(Box::new(move |case| {
                let mut arena = AlignedBytes::zeroed(case.arena.len()).map_err(|e| e.to_string())?;
                let mut cpu = Cpu::new(case.weights.as_slice(), arena.as_mut_slice(), Threads(threads), isa)
                    .map_err(|e| e.to_string())?;
                drive(&mut cpu, case)
            })),
            None => Err("this machine lacks the instructions".into()),
        },
    })
}

/// Runs a case on a backend that was opened over the case's weights and an arena of its size.
///
/// # Errors
/// The backend's, or a descriptor's check, in words.
pub fn drive<B: Backend>(backend: &mut B, case: &Case) -> Result<Vec<u8>, String>
where
    B::Error: Debug,
{
    let all = View::dense(Region::Arena, DType::I8, 0, 1, case.arena.len());
    backend.write(&all, &case.arena).map_err(|e| format!("{e:?}"))?;
    backend::run(backend, Program::Predict { images: 1 }, |k| case.op.record(k)).map_err(|e| format!("{e:?}"))?;
    let mut after = vec![0; case.arena.len()];
    backend.read(&all, &mut after).map_err(|e| format!("{e:?}"))?;
    Ok(after)
}

/// Says once what is skipped, past the test harness's capture.
///
/// # Panics
/// Where `DENOIR_REQUIRE`, words between commas, names a row that cannot run.
fn announce(rows: &[Row]) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (row, why) in rows.iter().filter_map(|row| Some((row, row.run.as_ref().err()?))) {
            // A line that is not written harms no test.
            let _ = writeln!(std::io::stderr(), "skipped: kernels on {}: {why}", row.name);
        }
    });
    let required = std::env::var("DENOIR_REQUIRE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        let here = rows.iter().any(|row| row.run.is_ok() && (row.name == name || row.same_bytes == name));
        assert!(here, "DENOIR_REQUIRE asks for {name}, which does not run here");
    }
}

/// This many threads for each kernel, which take the tasks from the last to the first.
struct Threads(usize);

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let left = AtomicUsize::new(tasks);
        let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
        let work = || {
            while let Some(n) = next() {
                task(n - 1);
            }
        };
        std::thread::scope(|scope| {
            (1..self.0.min(tasks)).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
}
