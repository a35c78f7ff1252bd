//! What a target did, from what libFuzzer printed.

use std::fmt;

/// What the fuzz program prints at its end before the seconds of processor time it took.
const PROCESSOR: &str = "processor seconds: ";

/// What a target did.
#[derive(Clone, Default)]
pub(super) struct Run {
    pub(super) target: String,
    pub(super) executions: u64,
    /// Branches that the corpus reached.
    pub(super) edges: u64,
    /// Of all processes together.
    pub(super) processor: f64,
    /// Files of inputs that broke a promise.
    pub(super) findings: Vec<String>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { target, executions, edges, processor, findings } = self;
        let rate = *executions as f64 / processor.max(1e-3);
        write!(
            f,
            "{target:<12} {executions:>10} executions {rate:>7.0}/s {edges:>7} edges {:>3} findings",
            findings.len()
        )
    }
}

impl Run {
    /// Adds what a process printed: `#9 DONE cov: 12 ft: ..`, `stat::number_of_executed_units: 9`.
    pub(super) fn read(&mut self, log: &str) {
        for line in log.lines() {
            let number =
                |after: &str| -> Option<f64> { line.split_once(after)?.1.split_whitespace().next()?.parse().ok() };
            if let Some(executions) = number("stat::number_of_executed_units:") {
                self.executions += executions as u64;
            } else if let Some(edges) = number(" cov: ") {
                self.edges = self.edges.max(edges as u64);
            } else if let Some(seconds) = number(PROCESSOR) {
                self.processor += seconds;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read() {
        let mut run = Run::default();
        run.read("#2 INITED cov: 5 ft: 6\n#9 DONE   cov: 12 ft: 15 corp: 3/9b\nstat::number_of_executed_units: 9");
        run.read("processor seconds: 1.5");
        assert_eq!((run.executions, run.edges, run.processor), (9, 12, 1.5));
    }
}
