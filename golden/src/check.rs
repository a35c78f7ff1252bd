//! What came out of a fixture.

/// What was found.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every comparison, in the order of execution.
    Checked(Vec<Check>),
    /// Why nothing was compared.
    Skipped(&'static str),
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Check {
    /// The tensor, or what of it.
    pub name: String,
    /// How far off; NaN where that cannot be said.
    pub error: f64,
    /// What the error may be.
    pub limit: f64,
}

impl Check {
    /// NaN fails.
    pub fn passed(&self) -> bool {
        self.error <= self.limit
    }

    /// ‖got − want‖ / ‖want‖.
    pub fn relative(name: impl Into<String>, got: &[f32], want: &[f32], limit: f64) -> Check {
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
    pub fn largest(name: impl Into<String>, got: &[f32], want: &[f32], limit: f64) -> Check {
        let differences = got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs()));
        // `f64::max` would pass over NaN.
        let largest = |max: f64, d: f64| if d.is_nan() || d > max { d } else { max };
        let error = if got.len() == want.len() { differences.fold(0.0, largest) } else { f64::NAN };
        Check { name: name.into(), error, limit }
    }

    /// The number of values that differ; none may.
    pub fn equal<T: PartialEq>(name: impl Into<String>, got: &[T], want: &[T]) -> Check {
        let different = got.iter().zip(want).filter(|(g, w)| g != w).count() + got.len().abs_diff(want.len());
        Check { name: name.into(), error: different as f64, limit: 0.0 }
    }
}

impl Verdict {
    /// Whether something was compared, and all of it is right.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Checked(checks) if !checks.is_empty() && checks.iter().all(Check::passed))
    }

    /// Whether nothing was compared, for a reason.
    pub fn skipped(&self) -> bool {
        matches!(self, Verdict::Skipped(_))
    }

    /// The first comparison over its limit.
    pub fn first_departure(&self) -> Option<&Check> {
        match self {
            Verdict::Checked(checks) => checks.iter().find(|check| !check.passed()),
            Verdict::Skipped(_) => None,
        }
    }
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
    }
}
