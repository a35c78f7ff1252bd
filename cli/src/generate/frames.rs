//! `--trajectory`: the predictions of every step as an animation.

use std::path::{Path, PathBuf};

use denoir::Rounding;

use super::describe::Job;
use super::numbered::numbered;
use crate::args::extension;
use crate::encode::{Animation, animate};
use crate::error::Error;
use crate::interrupt;
use crate::output::Output;
use crate::picture::{Picture, contact_sheet};

/// Maximum number of frames in an animation; longer runs are thinned out.
const MAX_FRAMES: usize = 100;

/// Collects 8-bit frames.
pub(super) struct Frames {
    path: PathBuf,
    kind: Animation,
    /// All images in one animation.
    grid: bool,
    count: usize,
    /// Number of steps between two frames.
    every: usize,
    /// The frames of each image that is not written yet.
    frames: Vec<Vec<Picture>>,
    /// Files written.
    pub(super) written: Vec<PathBuf>,
}

impl Frames {
    /// Also checks that the files can be written.
    pub(super) fn new(path: &Path, grid: bool, job: &Job) -> Result<Frames, Error> {
        let kind = match extension(path).as_str() {
            "gif" => Animation::Gif,
            "png" | "apng" => Animation::Apng,
            _ => return Err(Error::Usage(format!("cannot animate in {}: use .gif or .png", path.display()))),
        };
        let count = job.images.len();
        Output::probe(&numbered(path, 0, if grid { 1 } else { count }))?;
        let every = (job.settings.steps as usize).div_ceil(MAX_FRAMES);
        Ok(Frames { path: path.to_owned(), kind, grid, count, every, frames: Vec::new(), written: Vec::new() })
    }

    /// Adds the prediction after a step of image `number`.
    pub(super) fn add_step(&mut self, number: usize, step: usize, x_hat: &[f32], side: usize, rounding: Rounding) {
        if step.is_multiple_of(self.every) {
            self.add(number, x_hat, side, rounding);
        }
    }

    /// Adds a finished image, the last frame, and writes its animation.
    pub(super) fn add_image(
        &mut self,
        number: usize,
        sample: &[f32],
        side: usize,
        rounding: Rounding,
    ) -> Result<(), Error> {
        self.add(number, sample, side, rounding);
        if self.grid {
            return Ok(());
        }
        let frames = std::mem::take(&mut self.frames);
        let path = numbered(&self.path, number, self.count);
        self.write(path, frames.first().map_or(&[], Vec::as_slice))
    }

    /// Writes the animated contact sheet.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if !self.grid {
            return Ok(());
        }
        let images = std::mem::take(&mut self.frames);
        let length = images.first().map_or(0, Vec::len);
        let sheet =
            |i: usize| contact_sheet(&images.iter().filter_map(|frames| frames.get(i).cloned()).collect::<Vec<_>>());
        let sheets: Vec<Picture> = (0..length).map(sheet).collect();
        self.write(self.path.clone(), &sheets)
    }

    fn add(&mut self, number: usize, sample: &[f32], side: usize, rounding: Rounding) {
        let slot = if self.grid { number } else { 0 };
        if self.frames.len() <= slot {
            self.frames.resize_with(slot + 1, Vec::new);
        }
        self.frames[slot].push(Picture::from_sample(sample, side, rounding));
    }

    fn write(&mut self, path: PathBuf, frames: &[Picture]) -> Result<(), Error> {
        let bytes = animate(self.kind, frames);
        interrupt::check()?;
        let bytes = bytes.map_err(Error::writing(&path))?;
        Output::write(&path, &bytes)?;
        self.written.push(path);
        Ok(())
    }
}
