//! The destination of finished images: one file each, a contact sheet, an array, or standard output.

use std::io;
use std::path::{Path, PathBuf};

use denoir::{Image, Rounding};

use super::describe::Job;
use super::numbered::numbered;
use super::options::Target;
use crate::encode;
use crate::error::Error;
use crate::output::Output;
use crate::picture::{Picture, contact_sheet};
use crate::stdout;

/// Receives the images as they are finished. Only a contact sheet keeps them in memory, as 8-bit pictures.
pub(super) struct Sink {
    target: Target,
    kind: Kind,
    metadata: bool,
    /// Files written: path, and number of the image if the file holds only one.
    pub(super) written: Vec<(PathBuf, Option<usize>)>,
}

enum Kind {
    Each,
    Grid(Vec<Picture>),
    Array(Output),
}

impl Sink {
    /// Also checks that the files can be written, before the work begins.
    pub(super) fn new(target: Target, job: &Job, grid: bool, metadata: bool) -> Result<Sink, Error> {
        let kind = match &target {
            Target::Npy(path) => {
                let mut array = Output::create(path)?;
                array.append(&encode::npy_header(&[job.images.len(), job.channels, job.side, job.side]))?;
                Kind::Array(array)
            }
            _ if grid => Kind::Grid(Vec::new()),
            _ => Kind::Each,
        };
        let sink = Sink { target, kind, metadata, written: Vec::new() };
        match (&sink.target, &sink.kind) {
            (Target::Png(path) | Target::Ppm(path), Kind::Grid(_)) => Output::probe(path)?,
            (Target::Png(path) | Target::Ppm(path), _) => Output::probe(&numbered(path, 0, job.images.len()))?,
            _ => {}
        }
        Ok(sink)
    }

    pub(super) fn add(&mut self, number: usize, image: &Image, rounding: Rounding, job: &Job) -> Result<(), Error> {
        let picture = || Picture::from_sample(&image.sample, job.side, rounding);
        match &mut self.kind {
            Kind::Array(array) => array.append(&encode::little_endian(&image.sample)),
            Kind::Grid(pictures) => {
                pictures.push(picture());
                Ok(())
            }
            Kind::Each => self.write(&picture(), Some(number), job),
        }
    }

    /// Writes the images kept in memory.
    pub(super) fn finish(&mut self, job: &Job) -> Result<(), Error> {
        let all = (job.images.len() == 1).then_some(0);
        match std::mem::replace(&mut self.kind, Kind::Each) {
            Kind::Each => Ok(()),
            Kind::Grid(pictures) => {
                let sheet = contact_sheet(&pictures);
                self.kind = Kind::Grid(Vec::new());
                self.write(&sheet, all, job)
            }
            Kind::Array(array) => {
                array.commit()?;
                if let Target::Npy(path) = &self.target {
                    self.written.push((path.clone(), all));
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, picture: &Picture, number: Option<usize>, job: &Job) -> Result<(), Error> {
        let name = |path: &Path| match (&self.kind, number) {
            (Kind::Each, Some(number)) => numbered(path, number, job.images.len()),
            _ => path.to_owned(),
        };
        let chunks = if self.metadata { job.chunks(number) } else { Vec::new() };
        let path = match &self.target {
            Target::Stdout => return stdout::write(&png(picture, &chunks, Path::new("standard output"))?),
            Target::Png(path) => {
                let path = name(path);
                Output::write(&path, &png(picture, &chunks, &path)?)?;
                path
            }
            Target::Ppm(path) => {
                let path = name(path);
                Output::write(&path, &encode::ppm(picture))?;
                path
            }
            Target::Npy(_) => return Ok(()),
        };
        self.written.push((path, number));
        Ok(())
    }
}

fn png(picture: &Picture, chunks: &[encode::TextChunk], path: &Path) -> Result<Vec<u8>, Error> {
    encode::png(picture, chunks).map_err(|e| Error::Write(path.to_owned(), io::Error::other(e)))
}
