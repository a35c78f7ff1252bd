//! Opens a command's model.

use std::path::Path;
use std::sync::Arc;

use denoir::core::gguf::{Gguf, keys};
use denoir::{Loading, Model};

use crate::demo;
use crate::error::Error;

/// Opens the model at `path`, or the built-in one.
pub(crate) fn open(path: Option<&Path>, loading: Loading) -> Result<Arc<Model>, Error> {
    let model = match path {
        Some(path) => Model::load(path, loading)?,
        None => Model::from_static(demo::bytes())?,
    };
    Ok(Arc::new(model))
}

/// The name of a model, or else of its file.
pub(crate) fn display_name(model: &Model, path: Option<&Path>) -> String {
    let stem = || path.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    match model.name() {
        "" => stem().unwrap_or_else(|| "demo".into()),
        name => name.to_owned(),
    }
}

/// SHA-256 of the checkpoint that a model was converted from, if the file records it.
pub(crate) fn source_hash(model: &Model) -> Option<String> {
    let gguf = Gguf::parse(model.bytes()).ok()?;
    gguf.string(keys::SOURCE_SHA256).ok().map(str::to_owned)
}
