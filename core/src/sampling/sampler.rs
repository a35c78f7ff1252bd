//! Samplers: the times at which the network is evaluated, with or without guidance, and how each evaluation advances
//! the trajectory.
//!
//! Time runs from 0 (noise) to 1 (image). Every solver is a list of [`Evaluation`]s, all executed by one kernel,
//! [`SolverStep`](crate::ops::SolverStep).

use crate::gguf::{Gguf, keys};
use crate::ops::{HISTORY, StepValues};

/// Lower bound of the divisor in the velocity `(x̂ − x) / (1 − t)`.
pub const MIN_REMAINING: f64 = 0.05;

/// The solver that integrates the trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// First order (PixelGen).
    Euler,
    /// Second order, two evaluations per step; the last step is Euler (PixelGen).
    Heun,
    /// Heun that reuses the second velocity of the previous step as the first: one evaluation per step (PixelGen,
    /// `exact_henu: false`).
    HeunReuse,
    /// Heun as in JiT: no time shift, with guidance decided at each evaluation's own t.
    HeunJit,
    /// Adams-Bashforth of order 1 to 4 on the shifted, non-uniform grid (PixelGen text-to-image).
    Adams,
}

impl Method {
    /// Every method, in the order of [`keys::SAMPLER_METHODS`].
    pub const ALL: [Method; 5] = [Method::Euler, Method::Heun, Method::HeunReuse, Method::HeunJit, Method::Adams];

    /// The name in model files and on the command line.
    pub const fn name(self) -> &'static str {
        keys::SAMPLER_METHODS[self as usize]
    }

    /// The method of this name.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// The conversion of a predicted image in [-1, 1] to 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `trunc(clip((x + 1) · 127.5 + 0.5, 0, 255))`.
    PixelGen,
    /// `round_half_even(clip((x + 1) / 2 · 255, 0, 255))`.
    Jit,
}

impl Rounding {
    /// Both roundings, in the order of [`keys::ROUNDINGS`].
    pub const ALL: [Rounding; 2] = [Rounding::PixelGen, Rounding::Jit];

    /// The name in model files.
    pub const fn name(self) -> &'static str {
        keys::ROUNDINGS[self as usize]
    }

    /// The rounding of this name.
    pub fn from_name(name: &str) -> Option<Rounding> {
        Rounding::ALL.into_iter().find(|r| r.name() == name)
    }

    /// Converts one value. NaN becomes 0.
    pub fn to_u8(self, x: f32) -> u8 {
        match self {
            Rounding::PixelGen => ((x + 1.0) * 127.5 + 0.5).clamp(0.0, 255.0) as u8,
            Rounding::Jit => libm::rintf(((x + 1.0) / 2.0 * 255.0).clamp(0.0, 255.0)) as u8,
        }
    }
}

/// Sampler settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Solver.
    pub method: Method,
    /// Solver steps, 1 to [`MAX_STEPS`].
    pub steps: u32,
    /// Classifier-free guidance scale; 1 disables guidance.
    pub cfg_scale: f64,
    /// Guidance applies for t between these two. The method determines whether the ends are included.
    pub guidance_interval: (f64, f64),
    /// Time shift s in `t / (t + (1 − t) · s)`; 1 is none. [`Method::HeunJit`] has none.
    pub flow_shift: f64,
    /// Factor on the starting noise.
    pub noise_scale: f64,
    /// Order of [`Method::Adams`], 1 to 4.
    pub order: u32,
}

/// Maximum number of solver steps.
pub const MAX_STEPS: u32 = 10_000;

/// The largest guidance scale, flow shift and noise scale; the least flow shift and noise scale is 1 divided by it. Far
/// beyond what draws anything, and far from where f32 ends.
const EXTREME: f64 = 1e4;

/// What messages call the settings that are numbers.
const GUIDANCE_SCALE: &str = "the guidance scale";
const GUIDANCE_INTERVAL: &str = "the guidance interval";
const FLOW_SHIFT: &str = "the flow shift";
const NOISE_SCALE: &str = "the noise scale";

/// Errors of sampler settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingsError {
    /// Steps are not 1 to 10000.
    Steps,
    /// The order is not 1 to 4.
    Order,
    /// A number is not finite.
    NotFinite(&'static str),
    /// The shift or the noise scale is not positive.
    NotPositive(&'static str),
    /// A number is so large or so small that no image comes of it.
    Extreme(&'static str),
    /// A method name that does not exist.
    Method,
    /// A rounding name that does not exist.
    Rounding,
    /// The interval's lower end is above its upper end.
    Interval,
    /// `heun-jit` was given a time shift.
    ShiftUnused,
}

impl SettingsError {
    /// The name of the setting in [`Settings`]; of a name that does not exist, `sampling_method` or `rounding`.
    pub fn setting(&self) -> &'static str {
        use SettingsError::*;
        match *self {
            Steps => "steps",
            Order => "order",
            Method => "sampling_method",
            Rounding => "rounding",
            NotFinite(GUIDANCE_SCALE) | Extreme(GUIDANCE_SCALE) => "cfg_scale",
            NotFinite(GUIDANCE_INTERVAL) | Interval => "guidance_interval",
            NotFinite(FLOW_SHIFT) | NotPositive(FLOW_SHIFT) | Extreme(FLOW_SHIFT) | ShiftUnused => "flow_shift",
            NotFinite(_) | NotPositive(_) | Extreme(_) => "noise_scale",
        }
    }
}

impl core::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SettingsError::Steps => write!(f, "steps must be 1 to {MAX_STEPS}"),
            SettingsError::Order => f.write_str("the order must be 1 to 4"),
            SettingsError::NotFinite(what) => write!(f, "{what} is not a finite number"),
            SettingsError::NotPositive(what) => write!(f, "{what} must be above 0"),
            SettingsError::Extreme(what) => write!(f, "{what} is so large or so small that no image comes of it"),
            SettingsError::Method => {
                f.write_str("unknown sampling method; there are euler, heun, heun-reuse, heun-jit and adams")
            }
            SettingsError::Rounding => f.write_str("unknown rounding; there are pixelgen and jit"),
            SettingsError::Interval => f.write_str("the guidance interval's lower end is above its upper end"),
            SettingsError::ShiftUnused => f.write_str("heun-jit has no flow shift; use heun for a shifted schedule"),
        }
    }
}

impl core::error::Error for SettingsError {}

impl Settings {
    /// Reads the preset stored in a model file. An absent key keeps the plain default (euler, 50 steps, no guidance).
    ///
    /// # Errors
    /// [`SettingsError`] if a stored value is invalid.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Settings, SettingsError> {
        let number = |key, default| gguf.f32(key).map_or(default, decimal);
        let method = match gguf.string(keys::SAMPLER_METHOD) {
            Ok(name) => Method::from_name(name).ok_or(SettingsError::Method)?,
            Err(_) => Method::Euler,
        };
        let settings = Settings {
            method,
            steps: gguf.u32(keys::SAMPLER_STEPS).unwrap_or(50),
            cfg_scale: number(keys::SAMPLER_CFG_SCALE, 1.0),
            guidance_interval: (number(keys::SAMPLER_GUIDANCE_LO, 0.0), number(keys::SAMPLER_GUIDANCE_HI, 1.0)),
            flow_shift: number(keys::SAMPLER_FLOW_SHIFT, 1.0),
            noise_scale: number(keys::SAMPLER_NOISE_SCALE, 1.0),
            order: gguf.u32(keys::SAMPLER_ORDER).unwrap_or(2),
        };
        settings.check()?;
        Ok(settings)
    }

    /// # Errors
    /// [`SettingsError`], naming the invalid setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=MAX_STEPS).contains(&self.steps) {
            return Err(SettingsError::Steps);
        }
        if !(1..=HISTORY as u32).contains(&self.order) {
            return Err(SettingsError::Order);
        }
        let (lo, hi) = self.guidance_interval;
        for (what, value) in [(GUIDANCE_SCALE, self.cfg_scale), (GUIDANCE_INTERVAL, lo), (GUIDANCE_INTERVAL, hi)] {
            if !(value as f32).is_finite() {
                return Err(SettingsError::NotFinite(what));
            }
        }
        if lo > hi {
            return Err(SettingsError::Interval);
        }
        if self.cfg_scale.abs() > EXTREME {
            return Err(SettingsError::Extreme(GUIDANCE_SCALE));
        }
        for (what, value) in [(FLOW_SHIFT, self.flow_shift), (NOISE_SCALE, self.noise_scale)] {
            if !(value as f32).is_finite() {
                return Err(SettingsError::NotFinite(what));
            }
            if value <= 0.0 {
                return Err(SettingsError::NotPositive(what));
            }
            if !(1.0 / EXTREME..=EXTREME).contains(&value) {
                return Err(SettingsError::Extreme(what));
            }
        }
        if self.method == Method::HeunJit && self.flow_shift != 1.0 {
            return Err(SettingsError::ShiftUnused);
        }
        Ok(())
    }

    /// Time point `index` of `0..=steps`.
    pub fn time(&self, index: usize) -> f64 {
        let n = self.steps as usize;
        if index >= n {
            return 1.0;
        }
        let t = index as f64 * (1.0 / n as f64);
        match self.method {
            Method::HeunJit => t,
            _ => t / (t + (1.0 - t) * self.flow_shift),
        }
    }

    /// Number of evaluations of the network per image.
    pub const fn evaluations(&self) -> usize {
        let n = self.steps as usize;
        match self.method {
            Method::Euler | Method::Adams | Method::HeunReuse => n,
            Method::Heun | Method::HeunJit => 2 * n - 1,
        }
    }

    /// Evaluation `index` of `0..evaluations()`.
    pub fn evaluation(&self, index: usize) -> Evaluation {
        let n = self.steps as usize;
        let (step, corrector) = match self.method {
            Method::Euler | Method::Adams => (index, false),
            Method::Heun | Method::HeunJit => (index / 2, index % 2 == 1),
            Method::HeunReuse => (index.saturating_sub(1), index > 0),
        };
        let time = step + usize::from(corrector);
        let dt = |step| self.time(step + 1) - self.time(step);
        let mut e = Evaluation::new(self, step, time);
        match self.method {
            Method::Euler => e.advance[0] = dt(step),
            Method::Adams => e.adams(self, step),
            Method::Heun | Method::HeunJit if corrector => {
                e.slot = 1;
                e.advance[..2].fill(dt(step) / 2.0);
            }
            Method::HeunReuse if corrector => {
                e.slot = (step + 1) % 2;
                e.advance[..2].fill(dt(step) / 2.0);
                // The velocity just found is the next step's first, and the last step is Euler.
                let next = if step + 2 < n { &mut e.look_ahead } else { &mut e.advance };
                next[e.slot] += dt(step + 1);
            }
            _ if step + 1 < n => e.look_ahead[0] = dt(step),
            _ => e.advance[0] = dt(step),
        }
        e.last_of_step = self.method != Method::HeunReuse && (corrector || e.look_ahead == [0.0; HISTORY])
            || self.method == Method::HeunReuse && (corrector || n == 1);
        e
    }

    /// Returns whether an evaluation at time `t`, in a step that starts at `start`, is guided.
    fn guided(&self, start: f64, t: f64) -> bool {
        let (lo, hi) = self.guidance_interval;
        self.cfg_scale != 1.0
            && match self.method {
                Method::Euler | Method::Heun | Method::HeunReuse => lo < start && start <= hi,
                Method::Adams => lo < start && start < hi,
                Method::HeunJit => t < hi && (lo == 0.0 || t > lo),
            }
    }
}

/// One evaluation of the network, and the solver's step after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The solver step that it belongs to, from 0.
    pub step: usize,
    /// Index of its time point: see [`Settings::time`]. Grows by at most one from evaluation to evaluation.
    pub time_index: usize,
    /// Its time.
    pub t: f64,
    /// The guidance scale, if the null branch is evaluated too.
    pub guidance: Option<f64>,
    /// The slot that stores its velocity.
    pub slot: usize,
    /// Weights of the stored velocities in the advance of the trajectory.
    pub advance: [f64; HISTORY],
    /// Weights of the stored velocities in the network's next input.
    pub look_ahead: [f64; HISTORY],
    /// Whether the trajectory reaches the end of the step.
    pub last_of_step: bool,
}

impl Evaluation {
    fn new(settings: &Settings, step: usize, time_index: usize) -> Evaluation {
        let t = settings.time(time_index);
        Evaluation {
            step,
            time_index,
            t,
            guidance: settings.guided(settings.time(step), t).then_some(settings.cfg_scale),
            slot: 0,
            advance: [0.0; HISTORY],
            look_ahead: [0.0; HISTORY],
            last_of_step: true,
        }
    }

    /// Weights of the Adams-Bashforth step: the integral over the step of the polynomial through the last
    /// velocities, which is the sum of the integrals of the Lagrange basis polynomials.
    fn adams(&mut self, settings: &Settings, step: usize) {
        self.slot = step % HISTORY;
        let count = (settings.order as usize).min(step + 1);
        // Nodes relative to the step's start, the newest first: 0, negative, ...
        let node = |j: usize| settings.time(step - j) - settings.time(step);
        let end = settings.time(step + 1) - settings.time(step);
        for j in 0..count {
            let mut poly = [0.0; HISTORY + 1];
            poly[0] = 1.0;
            for k in (0..count).filter(|&k| k != j) {
                // poly · (s − node_k) / (node_j − node_k)
                for power in (0..HISTORY).rev() {
                    let below = if power > 0 { poly[power - 1] } else { 0.0 };
                    poly[power] = (below - node(k) * poly[power]) / (node(j) - node(k));
                }
            }
            let integral = (0..HISTORY).rev().fold(0.0, |sum, power| (sum + poly[power] / (power + 1) as f64) * end);
            self.advance[(step - j) % HISTORY] = integral;
        }
    }

    /// The input of the solver kernel.
    pub fn values(&self) -> StepValues {
        StepValues {
            advance: self.advance.map(|w| w as f32),
            look_ahead: self.look_ahead.map(|w| w as f32),
            remaining: (1.0 - self.t).max(MIN_REMAINING) as f32,
            guidance: self.guidance.unwrap_or(1.0) as f32,
            slot: self.slot as u32,
        }
    }
}

/// The decimal number from which an f32 in a file was written: 0.9, not 0.89999998. Comparisons of time points with
/// interval ends then give the same results as upstream.
///
/// That number is the one with the fewest decimal places that rounds to `x`. By hand: to print and to parse floats
/// would be a tenth of a small machine's program.
fn decimal(x: f32) -> f64 {
    let exact = f64::from(x);
    let mut scale = 1.0;
    // Powers of ten are exact up to this one, and so the quotient is the f64 that is nearest to the decimal number.
    while scale <= 1e22 {
        let nearest = libm::round(exact * scale) / scale;
        if nearest as f32 == x {
            return nearest;
        }
        scale *= 10.0;
    }
    exact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written() {
        let mut text = heapless::String::<64>::new();
        let mut same = |x: f32| {
            text.clear();
            core::fmt::write(&mut text, format_args!("{x}")).expect("room");
            let written: f64 = text.parse().expect("a number");
            assert_eq!(decimal(x), written, "{x}");
        };
        for bits in (1.0e-4f32.to_bits()..1.0e6f32.to_bits()).step_by(257) {
            same(f32::from_bits(bits));
            same(-f32::from_bits(bits));
        }
        for thousandth in 0..20_000u16 {
            same(f32::from(thousandth) / 1000.0);
        }
        assert!(decimal(f32::NAN).is_nan());
        assert_eq!(decimal(f32::INFINITY), f64::INFINITY);
    }

    const BASE: Settings = Settings {
        method: Method::Heun,
        steps: 50,
        cfg_scale: 2.25,
        guidance_interval: (0.1, 0.9),
        flow_shift: 2.0,
        noise_scale: 1.0,
        order: 2,
    };

    /// Runs a sampler on dx/dt = f(t), whose exact solution is known.
    fn integrate(settings: &Settings, f: impl Fn(f64) -> f64) -> f64 {
        let (mut x, mut velocity) = (0.0, [0.0; HISTORY]);
        for i in 0..settings.evaluations() {
            let e = settings.evaluation(i);
            velocity[e.slot] = f(e.t);
            x += (0..HISTORY).map(|j| e.advance[j] * velocity[j]).sum::<f64>();
        }
        x
    }

    #[test]
    fn each_method_integrates_polynomials_up_to_its_order() {
        for (method, order, degree) in [
            (Method::Euler, 1, 0),
            (Method::Adams, 1, 0),
            (Method::Adams, 2, 1),
            (Method::Adams, 3, 2),
            (Method::Adams, 4, 3),
        ] {
            // The first steps of a multi-step method are of lower order: a constant is exact for all.
            let s = Settings { method, order, steps: 9, ..BASE };
            assert!((integrate(&s, |_| 3.0) - 3.0).abs() < 1e-12, "{method:?}");
            let e = s.evaluation(5);
            let p = |t: f64| (0..=degree).map(|d| t.powi(d)).sum::<f64>();
            let exact = |t: f64| (0..=degree).map(|d| t.powi(d + 1) / f64::from(d + 1)).sum::<f64>();
            let step = (0..order as usize).map(|j| e.advance[s.evaluation(5 - j).slot] * p(s.time(5 - j))).sum::<f64>();
            assert!((step - (exact(s.time(6)) - exact(s.time(5)))).abs() < 1e-12, "{method:?} {order}");
        }
    }

    #[test]
    fn reuse_is_heun_when_velocity_depends_on_time_alone() {
        for steps in [1, 2, 3, 10] {
            let heun = Settings { steps, ..BASE };
            let reuse = Settings { method: Method::HeunReuse, ..heun };
            assert_eq!(reuse.evaluations(), steps as usize);
            let f = |t: f64| t * t + 1.0;
            assert!((integrate(&heun, f) - integrate(&reuse, f)).abs() < 1e-12, "{steps}");
        }
    }

    #[test]
    fn pixelgen_xl_costs_175_single_evaluations() {
        let cost: usize = (0..BASE.evaluations()).map(|i| 1 + usize::from(BASE.evaluation(i).guidance.is_some())).sum();
        assert_eq!(cost, 175);
    }

    #[test]
    fn time_index_grows_by_at_most_one_and_stays_below_steps() {
        for method in Method::ALL {
            let s = Settings { method, steps: 7, flow_shift: 1.0, ..BASE };
            let mut last = 0;
            for i in 0..s.evaluations() {
                let at = s.evaluation(i).time_index;
                assert!(at == last || at == last + 1);
                assert!(at < 7);
                last = at;
            }
        }
    }

    #[test]
    fn interval_ends_survive_f32_storage() {
        assert_eq!(decimal(0.9), 0.9);
        assert_eq!(decimal(0.1), 0.1);
        assert_eq!(decimal(2.25), 2.25);
    }

    #[test]
    fn rounding_to_8_bits() {
        assert_eq!(Rounding::PixelGen.to_u8(-1.0), 0);
        assert_eq!(Rounding::PixelGen.to_u8(1.0), 255);
        assert_eq!(Rounding::Jit.to_u8(0.0), 128);
        assert_eq!(Rounding::Jit.to_u8(f32::NAN), 0);
        assert_eq!(Rounding::Jit.to_u8(7.0), 255);
    }
}
