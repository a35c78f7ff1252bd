//! Progress on standard error: a bar on a terminal, a few plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{MESSAGE, one_line, pace, seconds, shortened};

/// The amount of output on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    Quiet,
    #[default]
    Normal,
    Verbose,
}

impl Verbosity {
    pub(crate) fn new(quiet: bool, verbose: bool) -> Verbosity {
        match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

/// Resolution of a bar: finer than any terminal.
const RESOLUTION: u64 = 10_000;
/// Minimum time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reports progress and messages to the user.
pub(crate) struct Reporter {
    verbosity: Verbosity,
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: Instant,
}

impl Reporter {
    pub(crate) fn new(verbosity: Verbosity) -> Reporter {
        let shown = verbosity > Verbosity::Quiet && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(Some(RESOLUTION), ProgressDrawTarget::stderr());
            // The template is a constant: if it were wrong, indicatif's own bar would do.
            if let Ok(style) = ProgressStyle::with_template("{wide_bar:.cyan/dim} {msg}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        let now = Instant::now();
        Reporter { verbosity, bar, start: now, last_line: now }
    }

    /// Time since the work began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Updates the display. `done` is the fraction of the work that is done, 0 to 1; the message gets the time left
    /// appended.
    pub(crate) fn update(&mut self, done: f64, message: &dyn Fn() -> String) {
        let left = if done > 0.0 { self.elapsed().as_secs_f64() * (1.0 - done) / done } else { 0.0 };
        let text = || format!("{}, {} left", message(), seconds(left));
        if let Some(bar) = &self.bar {
            bar.set_position((done * RESOLUTION as f64) as u64);
            bar.set_message(one_line(&text()).into_owned());
        } else if self.verbosity > Verbosity::Quiet && done < 1.0 && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.note(&text());
        }
    }

    /// Prints a line, unless quiet.
    pub(crate) fn note(&self, line: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.print(line);
        }
    }

    /// Prints a line, if verbose.
    pub(crate) fn detail(&self, line: &str) {
        if self.verbosity == Verbosity::Verbose {
            self.print(line);
        }
    }

    /// Runs `f`, which writes to the terminal, above the bar.
    pub(crate) fn above(&self, f: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        // Where standard error is closed there is nobody to tell.
        self.above(|| drop(writeln!(std::io::stderr(), "{}", one_line(&shortened(line, MESSAGE)))));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `step 3/50, 0.51 s/step`.
pub(crate) fn step_message(step: usize, steps: usize, elapsed: Duration) -> String {
    if step == 0 {
        return format!("step 0/{steps}");
    }
    format!("step {step}/{steps}, {}/step", pace(elapsed.as_secs_f64() / step as f64))
}
