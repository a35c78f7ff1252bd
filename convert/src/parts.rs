//! Readers of single files, for fuzz targets. Not part of the API.

use crate::qwen3;
use crate::{ConvertError, SafetensorsError};

/// The file names of the shards that a safetensors index lists.
///
/// # Errors
/// [`SafetensorsError`].
pub fn shards(index: &[u8]) -> Result<Vec<String>, SafetensorsError> {
    crate::safetensors::shards(index)
}

/// Reads a text encoder's `config.json`.
///
/// # Errors
/// [`ConvertError::TextEncoder`].
pub fn text_encoder(config: &[u8]) -> Result<(), ConvertError> {
    qwen3::check_config(config)
}

/// Reads a text encoder's `tokenizer.json` for an embedding of `rows` tokens.
///
/// # Errors
/// [`ConvertError::TextEncoder`].
pub fn vocabulary(json: &[u8], rows: u32) -> Result<(), ConvertError> {
    qwen3::check_vocabulary(json, rows)
}
