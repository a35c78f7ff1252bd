//! Outcomes of checks.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Counts, Error};

/// The message of a check that passed.
pub(crate) enum Outcome {
    Passed,
    Note(String),
    Tests(Counts),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("ok"),
            Outcome::Note(note) => write!(f, "ok, {note}"),
            Outcome::Tests(counts) => write!(f, "ok, {counts}"),
        }
    }
}

/// The outcome of a check; `None` if it was left out.
type Ended = Option<Result<Outcome, Error>>;

/// The outcome of a check, in words.
fn verdict(result: &Ended) -> String {
    match result {
        None => "left out".into(),
        Some(Ok(outcome)) => outcome.to_string(),
        // That is no pass either.
        Some(Err(e @ Error::Missing { .. })) => format!("NOT RUN: {e}"),
        Some(Err(e)) => format!("FAILED: {e}"),
    }
}

/// The outcomes of checks, in order.
pub(crate) struct Report {
    start: Instant,
    done: Vec<(&'static str, Ended, Duration)>,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report { start: Instant::now(), done: Vec::new() }
    }

    /// Runs a check and prints its outcome.
    pub(crate) fn add(&mut self, name: &'static str, check: impl FnOnce() -> Ended) {
        let start = Instant::now();
        let result = check();
        println!("== {name}: {} ({})", verdict(&result), seconds(start.elapsed()));
        self.done.push((name, result, start.elapsed()));
    }

    /// Prints a summary; an error if a check did not pass.
    pub(crate) fn finish(self) -> Result<(), Error> {
        println!("\n== summary ({})", seconds(self.start.elapsed()));
        for (name, result, time) in &self.done {
            println!("{:>8}  {name:<9} {}", seconds(*time), verdict(result));
        }
        let counts = self.done.iter().find_map(|(_, result, _)| match result {
            Some(Ok(Outcome::Tests(counts)) | Err(Error::Tests(counts))) => Some(*counts),
            _ => None,
        });
        let failed = self.done.iter().filter(|(_, result, _)| matches!(result, Some(Err(_)))).count();
        // Checks that passed and count no tests say in their notes what ran.
        if counts.is_some() || failed > 0 {
            println!("{}", counts.unwrap_or_default());
        }
        match failed {
            0 => Ok(()),
            count => Err(Error::Checks(count)),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
