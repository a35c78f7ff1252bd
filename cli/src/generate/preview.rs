//! `--preview`: shows the predicted clean image during drawing, in a file or on the terminal.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use denoir::Rounding;

use super::term::Screen;
use crate::args::extension;
use crate::encode;
use crate::error::Error;
use crate::output::Output;
use crate::picture::Picture;
use crate::reporter::Reporter;

/// Shows predictions.
pub(super) enum Preview {
    /// A picture file that is replaced at every step.
    File(PathBuf),
    /// Half blocks in 24-bit colour.
    Terminal(Screen),
}

impl Preview {
    /// Also checks that the file can be written.
    pub(super) fn new(to: &Path) -> Result<Preview, Error> {
        if to == Path::new("term") {
            if !io::stderr().is_terminal() {
                return Err(Error::usage("--preview term needs a terminal; give it a .png file instead"));
            }
            return Ok(Preview::Terminal(Screen::default()));
        }
        if !matches!(extension(to).as_str(), "png" | "ppm") {
            return Err(Error::Usage(format!("cannot preview in {}: use .png, .ppm, or `term`", to.display())));
        }
        Output::probe(to)?;
        Ok(Preview::File(to.to_owned()))
    }

    pub(super) fn show(
        &mut self,
        sample: &[f32],
        side: usize,
        rounding: Rounding,
        progress: &Reporter,
    ) -> Result<(), Error> {
        let picture = Picture::from_sample(sample, side, rounding);
        match self {
            Preview::File(path) => {
                let bytes = match extension(path).as_str() {
                    "ppm" => encode::ppm(&picture),
                    _ => encode::png(&picture, &[]).map_err(|e| Error::Write(path.clone(), io::Error::other(e)))?,
                };
                Output::write_passing(path, &bytes)
            }
            Preview::Terminal(screen) => {
                progress.above(|| screen.draw(&picture));
                Ok(())
            }
        }
    }

    /// The next image is drawn below the last one.
    pub(super) fn next_image(&mut self) {
        if let Preview::Terminal(screen) = self {
            *screen = Screen::default();
        }
    }
}
