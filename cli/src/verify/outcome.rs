//! The results of fixtures.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

/// One fixture's result.
pub(super) struct Outcome {
    pub(super) file: PathBuf,
    pub(super) kind: String,
    pub(super) verdict: Verdict,
}

/// What the fixture's checks found.
pub(super) enum Verdict {
    /// Every comparison, in the order of execution.
    Checked(Vec<Check>),
    /// Why nothing was compared.
    Skipped(&'static str),
}

/// One comparison.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// The tensor, or the part of it.
    pub(super) name: String,
    pub(super) error: f64,
    pub(super) limit: f64,
}

impl Check {
    /// NaN fails.
    pub(super) fn passed(&self) -> bool {
        self.error <= self.limit
    }

    /// ‖got − want‖ / ‖want‖.
    pub(super) fn relative(name: impl Into<String>, got: &[f32], want: &[f32], limit: f64) -> Check {
        let square = |x: f64| x * x;
        let pairs = || got.iter().zip(want).map(|(&g, &w)| (f64::from(g), f64::from(w)));
        let difference: f64 = pairs().map(|(g, w)| square(g - w)).sum();
        let size: f64 = pairs().map(|(_, w)| square(w)).sum();
        let error = if got.len() != want.len() {
            f64::NAN
        } else if difference == 0.0 {
            0.0
        } else {
            (difference / size).sqrt()
        };
        Check { name: name.into(), error, limit }
    }

    /// The largest |got − want|.
    pub(super) fn largest(name: impl Into<String>, got: &[f32], want: &[f32], limit: f64) -> Check {
        let differences = got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs()));
        // `f64::max` would pass over NaN.
        let largest = |max: f64, d: f64| if d.is_nan() || d > max { d } else { max };
        let error = if got.len() == want.len() { differences.fold(0.0, largest) } else { f64::NAN };
        Check { name: name.into(), error, limit }
    }

    /// The number of values that differ; none may.
    pub(super) fn equal<T: PartialEq>(name: impl Into<String>, got: &[T], want: &[T]) -> Check {
        let different = got.iter().zip(want).filter(|(g, w)| g != w).count() + got.len().abs_diff(want.len());
        Check { name: name.into(), error: different as f64, limit: 0.0 }
    }
}

impl Verdict {
    pub(super) fn passed(&self) -> bool {
        matches!(self, Verdict::Checked(checks) if !checks.is_empty() && checks.iter().all(Check::passed))
    }

    pub(super) fn skipped(&self) -> bool {
        matches!(self, Verdict::Skipped(_))
    }

    fn first_departure(&self) -> Option<&Check> {
        match self {
            Verdict::Checked(checks) => checks.iter().find(|check| !check.passed()),
            Verdict::Skipped(_) => None,
        }
    }
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
    use super::*;

    #[test]
    fn nan_and_missing_values_fail() {
        let nan = [1.0, f32::NAN];
        assert!(!Check::relative("x", &nan, &[1.0, 1.0], 1.0).passed());
        assert!(!Check::relative("x", &[1.0], &[1.0, 1.0], 1.0).passed());
        assert!(!Check::largest("x", &nan, &[1.0, 1.0], 9.0).passed());
        assert!(!Check::largest("x", &[f32::NAN, 1.0], &[1.0, 1.0], 9.0).passed());
        assert!(!Check::equal("x", &[1u8], &[1, 2]).passed());
        assert!(!Verdict::Checked(Vec::new()).passed());
    }

    #[test]
    fn errors_are_measured() {
        assert_eq!(Check::relative("x", &[3.0, 4.0], &[3.0, 4.0], 0.0).error, 0.0);
        assert!((Check::relative("x", &[3.0, 5.0], &[3.0, 4.0], 0.0).error - 0.2).abs() < 1e-12);
        assert_eq!(Check::largest("x", &[3.0, 5.5], &[3.0, 4.0], 0.0).error, 1.5);
        assert_eq!(number(1.23e-7), "1.2e-7");
    }
}
