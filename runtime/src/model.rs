use std::fs::File;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "vulkan", feature = "cuda"))]
use std::sync::Arc;

use denoir_core::backend::ModelFile;
use denoir_core::gguf::{Gguf, GgufError, keys};
use denoir_core::{ModelError, View};

use crate::bytes::{owned, reserved};
use crate::file::{Contents, Reader};
use crate::reserve::Watch;
use crate::{AlignedBytes, AnyNetwork, Error, Loading, MappedFile, Rounding, Settings};

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
    /// All but [`AnyNetwork::matrices`], which are zero here: whoever wants them reads them.
    Read(Contents, Reader),
    Owned(AlignedBytes),
    Static(&'static [u8]),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(file) => file.bytes(),
            Storage::Read(contents, _) => contents.as_ref(),
            Storage::Owned(bytes) => bytes.as_slice(),
            Storage::Static(bytes) => bytes,
        }
    }
}

impl Model {
    /// Reads a model file: [`Model::load`] with [`Loading::Read`].
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        Model::load(path, Loading::Read)
    }

    /// Opens a model file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Model`] or [`Error::Preset`] if it is not a model,
    /// [`Error::Memory`] if it does not fit.
    pub fn load(path: impl AsRef<Path>, loading: Loading) -> Result<Model, Error> {
        let (path, watch) = (path.as_ref(), Watch::start());
        let model = match loading {
            Loading::Read => Model::read(Reader::open(path)?),
            Loading::Map => Model::new(Storage::Mapped(MappedFile::open(path)?)),
        };
        watch.check()?;
        model.map_err(|e| match e {
            Error::Model(_, e) => Error::Model(Some(path.to_owned()), e),
            other => other,
        })
    }

    /// Reads a model from an open file. It may be closed afterwards, and its position does not matter.
    ///
    /// # Errors
    /// As [`Model::load`]; errors call the file `(open file)`.
    pub fn from_file(file: &File) -> Result<Model, Error> {
        let name = || PathBuf::from("(open file)");
        let watch = Watch::start();
        let file = file.try_clone().map_err(|e| Error::Io(name(), e))?;
        let model = Model::read(Reader::new(file, name())?)?;
        watch.check()?;
        Ok(model)
    }

    /// Reads the header, and then all that no pipeline reads for itself.
    fn read(reader: Reader) -> Result<Model, Error> {
        let mut room = reader.room()?;
        let mut at = read_header(&reader, &mut room)?;
        let header = Gguf::parse(&room[..reader.len()]).map_err(|e| Error::Model(None, e.into()))?;
        let network = AnyNetwork::from_gguf(&header).map_err(|e| Error::Model(None, e))?;
        let mut matrices: Vec<View> =
            network.matrices()?.iter().flat_map(|w| [Some(w.data), w.residual()]).flatten().collect();
        matrices.sort_unstable_by_key(|view| view.offset);
        for matrix in matrices {
            // All of them lie in the file, as was checked.
            let end = matrix.offset + matrix.len_bytes().unwrap_or(0);
            if let Some(between) = room.get_mut(at..matrix.offset) {
                reader.read(at, between)?;
            }
            at = at.max(end);
        }
        reader.read(at, &mut room[at..reader.len()])?;
        reader.check()?;
        Model::new(Storage::Read(reader.contents(room)?, reader))
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
        let name = owned(gguf.string(keys::NAME).unwrap_or_default())?;
        let mut class_names = Vec::new();
        if let Ok(names) = gguf.strings(keys::CLASS_NAMES) {
            class_names = reserved(names.clone().count())?;
            for name in names {
                class_names.push(owned(name)?);
            }
        }
        Ok(Model { network, preset, rounding, name, class_names, storage })
    }

    /// The file's bytes. Of a file that was read, not mapped, the matrices that a pipeline reads for itself are zero.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// What the largest matrices must be read from, if they are not among [`Model::bytes`].
    pub(crate) fn reader(&self) -> Option<&Reader> {
        match &self.storage {
            Storage::Read(_, reader) => Some(reader),
            _ => None,
        }
    }

    /// The whole file, for a device that uploads its weights.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Memory`] if it must be read and cannot be.
    #[cfg(any(feature = "vulkan", feature = "cuda"))]
    pub(crate) fn whole(self: &Arc<Model>) -> Result<Arc<dyn ModelFile>, Error> {
        match self.reader() {
            Some(reader) => Ok(Arc::new(reader.whole()?)),
            None => Ok(Arc::clone(self) as Arc<dyn ModelFile>),
        }
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

/// Reads the file's header, and returns where it ends. All that follows is zero.
fn read_header(reader: &Reader, room: &mut [u8]) -> Result<usize, Error> {
    /// Bytes of most headers.
    const FIRST: usize = 1 << 20;
    let (mut at, mut until) = (0, FIRST.min(reader.len()));
    loop {
        reader.read(at, &mut room[at..until])?;
        at = until;
        // What follows is zero yet: an error may only say that the header goes on there.
        match Gguf::parse(&room[..reader.len()]) {
            Ok(header) if header.data_start() <= at as u64 || at == reader.len() => {
                let end = at.min(header.data_start() as usize);
                room[end..at].fill(0);
                return Ok(end);
            }
            Err(e) if at == reader.len() || matches!(e, GgufError::NotGguf | GgufError::Version(_)) => {
                return Err(Error::Model(None, e.into()));
            }
            _ => until = at.saturating_mul(8).min(reader.len()),
        }
    }
}
