use std::path::Path;

use denoir_core::backend::ModelFile;
use denoir_core::gguf::{Gguf, keys};
use denoir_core::{ModelError, View};

use crate::{AlignedBytes, AnyNetwork, Error, MappedFile, Rounding, Settings};

/// An open, checked model file, shared by pipelines.
#[derive(Debug)]
pub struct Model {
    storage: Storage,
    network: AnyNetwork,
    preset: Settings,
    rounding: Rounding,
    name: String,
    class_names: Vec<String>,
}

#[derive(Debug)]
enum Storage {
    Mapped(MappedFile),
    Owned(AlignedBytes),
    Static(&'static [u8]),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(file) => file.bytes(),
            Storage::Owned(bytes) => bytes.as_slice(),
            Storage::Static(bytes) => bytes,
        }
    }
}

impl Model {
    /// Maps a model file into memory. Nothing is copied; pages are read on first use.
    ///
    /// The file must not change while the model is in use.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Model`] or [`Error::Preset`] if it is not a model.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        let path = path.as_ref();
        let file = MappedFile::open(path)?;
        Model::new(Storage::Mapped(file)).map_err(|e| match e {
            Error::Model(_, e) => Error::Model(Some(path.to_owned()), e),
            other => other,
        })
    }

    /// Maps an open file into memory, like [`Model::open`]. The file may be closed afterwards.
    ///
    /// # Errors
    /// As [`Model::open`]; errors call the file `(open file)`.
    pub fn from_file(file: &std::fs::File) -> Result<Model, Error> {
        let file = MappedFile::of(file).map_err(|e| Error::Io("(open file)".into(), e))?;
        Model::new(Storage::Mapped(file))
    }

    /// Reads a model from bytes in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: AlignedBytes) -> Result<Model, Error> {
        Model::new(Storage::Owned(bytes))
    }

    /// Reads a model from static bytes aligned to 64.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_static(bytes: &'static [u8]) -> Result<Model, Error> {
        Model::new(Storage::Static(bytes))
    }

    fn new(storage: Storage) -> Result<Model, Error> {
        let bytes = storage.bytes();
        let model = |e: ModelError| Error::Model(None, e);
        if !bytes.as_ptr().addr().is_multiple_of(64) {
            return Err(model(ModelError::MisalignedFile));
        }
        let gguf = Gguf::parse(bytes).map_err(|e| model(e.into()))?;
        let network = AnyNetwork::from_gguf(&gguf).map_err(model)?;
        let preset = Settings::from_gguf(&gguf).map_err(Error::Preset)?;
        let rounding = gguf.string(keys::ROUNDING).ok().and_then(Rounding::from_name).unwrap_or(Rounding::PixelGen);
        let name = gguf.string(keys::NAME).unwrap_or_default().to_owned();
        let class_names =
            gguf.strings(keys::CLASS_NAMES).map(|names| names.map(str::to_owned).collect()).unwrap_or_default();
        Ok(Model { network, preset, rounding, name, class_names, storage })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The network's sizes and weights.
    pub fn network(&self) -> &AnyNetwork {
        &self.network
    }

    /// The sampler settings stored at conversion.
    pub fn preset(&self) -> &Settings {
        &self.preset
    }

    /// The rounding that converts the model's images to 8 bits.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// The value of `general.name`, or an empty string.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The class names in order; empty if the file has none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Looks up a class by number or name, ignoring case.
    pub fn class(&self, number_or_name: &str) -> Option<u32> {
        if let Ok(number) = number_or_name.parse::<u32>() {
            return ((number as usize) < self.network.classes()).then_some(number);
        }
        let found = self.class_names.iter().position(|name| name.eq_ignore_ascii_case(number_or_name));
        found.map(|i| i as u32)
    }
}

impl ModelFile for Model {
    fn bytes(&self) -> &[u8] {
        Model::bytes(self)
    }

    fn has_read(&self, matrix: &View) {
        if let Storage::Mapped(file) = &self.storage {
            file.has_read(matrix);
        }
    }
}
