//! The models of the fixtures: their checkpoints, converted once each.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use denoir::core::DType;
use denoir::{EncodedPrompt, Isa, Model, Options, Pipeline, Pool, TextEncoder};
use denoir_convert::convert;
use tempfile::TempDir;

use super::fixture::Fixture;
use crate::args::{EngineArgs, extension};
use crate::checkpoint;
use crate::error::Error;
use crate::interrupt;
use crate::prompt::Source;

/// Allowed relative error of an f32 forward pass if sums are reordered (SIMD, GPUs).
const REORDERED_F32: f64 = 1e-5;

/// Checkpoint, configuration, set of weights.
type Key = (PathBuf, Option<PathBuf>, Option<String>);

/// Converts and opens models on demand for fixtures.
pub(super) struct Models {
    pub(super) dtype: DType,
    pub(super) options: Options,
    pub(super) isa: Isa,
    folder: TempDir,
    encoders: HashMap<PathBuf, Arc<TextEncoder>>,
    open: HashMap<Key, Arc<Model>>,
}

impl Models {
    pub(super) fn new(dtype: DType, engine: &EngineArgs) -> Result<Models, Error> {
        let folder = TempDir::new().map_err(Error::writing(&std::env::temp_dir()))?;
        let isa = engine.isa.unwrap_or_else(Isa::detect);
        Ok(Models { dtype, options: engine.options(1), isa, folder, encoders: HashMap::new(), open: HashMap::new() })
    }

    /// A pipeline with a batch of one for the fixture's model.
    pub(super) fn pipeline(&mut self, fixture: &Fixture) -> Result<Pipeline, Error> {
        Ok(Pipeline::new(self.model(fixture)?, &self.options)?)
    }

    /// The thread pool for single kernels.
    pub(super) fn pool(&self) -> Result<Pool, Error> {
        Ok(Pool::new(self.options.threads.unwrap_or(1)).map_err(denoir::Error::Threads)?)
    }

    fn model(&mut self, fixture: &Fixture) -> Result<Arc<Model>, Error> {
        let optional = |name| fixture.parameter(name).ok();
        let checkpoint = checkpoint::locate(&fixture.beside(fixture.parameter("model")?))?;
        let config = optional("config").map(|path| fixture.beside(path));
        let weights = optional("weights").map(str::to_owned);
        let key = (checkpoint.clone(), config.clone(), weights.clone());
        if let Some(model) = self.open.get(&key) {
            return Ok(Arc::clone(model));
        }
        let file = if extension(&checkpoint) == "gguf" {
            checkpoint
        } else {
            let file = self.folder.path().join(format!("{}.gguf", self.open.len()));
            let cancel = Some(interrupt::flag());
            let options = denoir_convert::Options { weights, dtype: Some(self.dtype), config, labels: None, cancel };
            convert(&checkpoint, &file, &options, &mut |_| {})?;
            file
        };
        let model = Arc::new(Model::open(file)?);
        self.open.insert(key, Arc::clone(&model));
        Ok(model)
    }

    /// The fixture's text encoder.
    pub(super) fn text_encoder(&mut self, fixture: &Fixture) -> Result<Arc<TextEncoder>, Error> {
        let path = fixture.beside(fixture.parameter("text_encoder")?);
        if let Some(encoder) = self.encoders.get(&path) {
            return Ok(Arc::clone(encoder));
        }
        let file = self.folder.path().join(format!("encoder-{}.gguf", self.encoders.len()));
        let options = denoir_convert::Options { dtype: Some(self.dtype), ..Default::default() };
        convert(&checkpoint::locate(&path)?, &file, &options, &mut |_| {})?;
        let encoder = Arc::new(TextEncoder::open(file)?);
        self.encoders.insert(path, Arc::clone(&encoder));
        Ok(encoder)
    }

    /// The prompt embedding of a fixture's image, from a file or its text encoder.
    pub(super) fn encoded_prompt(&mut self, fixture: &Fixture, size: (usize, usize)) -> Result<EncodedPrompt, Error> {
        if let Ok(path) = fixture.parameter("prompt_embeds") {
            return Source::Embeds(fixture.beside(path)).read(size, &self.options, &mut |_| {});
        }
        let (prompt, negative) = (fixture.parameter("prompt")?, fixture.parameter("negative_prompt")?);
        Ok(self.text_encoder(fixture)?.encode_prompt(prompt, negative, size, &self.options)?)
    }

    /// The allowed error of a forward pass with weights of this type.
    pub(super) fn forward_limit(&self, fixture: &Fixture) -> Result<f64, Error> {
        let limit = fixture.number(&format!("limit.{}", self.dtype))?;
        let exact_order = self.dtype != DType::F32 || self.isa == Isa::SCALAR;
        Ok(if exact_order { limit } else { REORDERED_F32.max(limit) })
    }
}
