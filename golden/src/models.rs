//! The models of the fixtures: their checkpoints, converted once each.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use denoir::core::DType;
use denoir::{EncodedPrompt, Isa, Loading, Model, Options, TextEncoder};
use denoir_convert::{ConvertError, convert, locate};
use tempfile::TempDir;

use crate::error::Error;
use crate::fixture::Fixture;

/// Allowed relative error of an f32 forward pass if sums are reordered (SIMD, GPUs).
const REORDERED_F32: f64 = 1e-5;

/// Checkpoint, configuration, set of weights.
type Key = (PathBuf, Option<PathBuf>, Option<String>);

/// Converts and opens models as fixtures ask for them.
#[derive(Debug)]
pub struct Models {
    pub(crate) dtype: DType,
    pub(crate) options: Options,
    pub(crate) cancel: Arc<AtomicBool>,
    encoders: HashMap<PathBuf, Arc<TextEncoder>>,
    open: HashMap<Key, Arc<Model>>,
    // Dropped, and so deleted, after what is mapped from it.
    folder: TempDir,
}

impl Models {
    /// For weights of this type, and one image at a time with these options. Setting `cancel` ends what runs.
    ///
    /// # Errors
    /// [`Error`] where there is no room for temporary files.
    pub fn new(dtype: DType, options: Options, cancel: Arc<AtomicBool>) -> Result<Models, Error> {
        let folder = TempDir::new().map_err(|source| ConvertError::Write { path: std::env::temp_dir(), source })?;
        Ok(Models { dtype, options, cancel, folder, encoders: HashMap::new(), open: HashMap::new() })
    }

    /// The instruction set that the processor's kernels use.
    pub(crate) fn isa(&self) -> Isa {
        self.options.isa.unwrap_or_else(Isa::detect)
    }

    /// The fixture's model.
    ///
    /// # Errors
    /// [`Error`] for a fixture that names none, or a model that cannot be converted.
    pub fn model(&mut self, fixture: &Fixture) -> Result<Arc<Model>, Error> {
        let optional = |name| fixture.parameter(name).ok();
        let checkpoint = locate(&fixture.beside(fixture.parameter("model")?))?;
        let config = optional("config").map(|path| fixture.beside(path));
        let weights = optional("weights").map(str::to_owned);
        let key = (checkpoint.clone(), config.clone(), weights.clone());
        if let Some(model) = self.open.get(&key) {
            return Ok(Arc::clone(model));
        }
        let file = if checkpoint.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            checkpoint
        } else {
            let file = self.folder.path().join(format!("{}.gguf", self.open.len()));
            let cancel = Some(Arc::clone(&self.cancel));
            let options = denoir_convert::Options { weights, dtype: Some(self.dtype), config, labels: None, cancel };
            convert(&checkpoint, &file, &options, &mut |_| {})?;
            file
        };
        let model = Arc::new(Model::load(file, Loading::Map)?);
        self.open.insert(key, Arc::clone(&model));
        Ok(model)
    }

    /// The fixture's text encoder.
    ///
    /// # Errors
    /// [`Error`] for a fixture that names none, or an encoder that cannot be converted.
    pub fn text_encoder(&mut self, fixture: &Fixture) -> Result<Arc<TextEncoder>, Error> {
        let path = fixture.beside(fixture.parameter("text_encoder")?);
        if let Some(encoder) = self.encoders.get(&path) {
            return Ok(Arc::clone(encoder));
        }
        let file = self.folder.path().join(format!("encoder-{}.gguf", self.encoders.len()));
        let cancel = Some(Arc::clone(&self.cancel));
        let options = denoir_convert::Options { dtype: Some(self.dtype), cancel, ..Default::default() };
        convert(&locate(&path)?, &file, &options, &mut |_| {})?;
        let encoder = Arc::new(TextEncoder::load(file, Loading::Map)?.with_cancel(Arc::clone(&self.cancel)));
        self.encoders.insert(path, Arc::clone(&encoder));
        Ok(encoder)
    }

    /// The text of a fixture's image, from a file of embeddings or through its text encoder.
    pub(crate) fn encoded_prompt(&mut self, fixture: &Fixture, size: (usize, usize)) -> Result<EncodedPrompt, Error> {
        if let Ok(path) = fixture.parameter("prompt_embeds") {
            let file = Fixture::read(&fixture.beside(path))?;
            let embeds = |name| Ok::<_, Error>(file.typed(name, DType::F32)?.f32());
            return Ok(EncodedPrompt { prompt: embeds("prompt_embeds")?, negative: embeds("negative_prompt_embeds")? });
        }
        let (prompt, negative) = (fixture.parameter("prompt")?, fixture.parameter("negative_prompt")?);
        Ok(self.text_encoder(fixture)?.encode_prompt(prompt, negative, size, &self.options)?)
    }

    /// What a forward pass may be off by, for weights of this type.
    pub(crate) fn forward_limit(&self, fixture: &Fixture) -> Result<f64, Error> {
        let limit = fixture.number(&format!("limit.{}", self.dtype))?;
        let exact_order = self.dtype != DType::F32 || self.isa() == Isa::SCALAR;
        Ok(if exact_order { limit } else { REORDERED_F32.max(limit) })
    }
}
