//! The results of fixtures.

use std::fmt::Write as _;
use std::path::PathBuf;

use denoir_golden::{Check, Verdict};
use serde_json::{Value, json};

/// One fixture's result.
pub(super) struct Outcome {
    pub(super) file: PathBuf,
    pub(super) kind: String,
    pub(super) verdict: Verdict,
}

impl Outcome {
    /// The reason for failure, in one line.
    pub(super) fn failure(&self) -> String {
        let file = self.file.display();
        match self.verdict.first_departure() {
            Some(c) => {
                format!("{file} departs first at {}: error {}, limit {}", c.name, number(c.error), number(c.limit))
            }
            None => format!("{file}: nothing was compared"),
        }
    }

    pub(super) fn text(&self) -> String {
        let head = format!("{} ({})", self.file.display(), self.kind);
        let checks = match &self.verdict {
            Verdict::Skipped(why) => return format!("{head}: SKIPPED: {why}\n"),
            Verdict::Checked(checks) => checks,
        };
        let mut out = match self.verdict.first_departure() {
            Some(check) => format!("{head}: FAILED, first at {}\n", check.name),
            None => format!("{head}: ok\n"),
        };
        let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for c in checks {
            let mark = if c.passed() { "" } else { "  OVER" };
            let _ = writeln!(out, "  {:width$}  {:>8}  limit {}{mark}", c.name, number(c.error), number(c.limit));
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        let mut value = json!({ "file": self.file.to_string_lossy(), "kind": self.kind });
        match &self.verdict {
            Verdict::Skipped(why) => {
                value["result"] = json!("skipped");
                value["reason"] = json!(why);
            }
            Verdict::Checked(checks) => {
                value["result"] = json!(if self.verdict.passed() { "passed" } else { "failed" });
                value["first_departure"] = json!(self.verdict.first_departure().map(|check| &check.name));
                value["tensors"] = checks.iter().map(as_json).collect();
            }
        }
        value
    }
}

fn as_json(check: &Check) -> Value {
    // NaN becomes null.
    json!({ "name": check.name, "error": check.error, "limit": check.limit, "passed": check.passed() })
}

/// 0, 3, 1.2e-7.
fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e6 { format!("{value}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 3.0, 1.23e-7].map(super::number), ["0", "3", "1.2e-7"]);
    }
}
