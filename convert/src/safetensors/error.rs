use core::fmt;

use safetensors::SafeTensorError;

/// Why a safetensors file or index was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file is damaged.
    File(SafeTensorError),
    /// The header, the index, the number of tensors or a name is larger than any real one.
    TooLarge(&'static str),
    /// The index is not JSON with a `weight_map` of names to file names.
    Json(serde_json::Error),
    /// The index names no file.
    WeightMap,
    /// The index names a file outside its own folder, or too many files.
    ShardName(String),
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SafetensorsError::File(source) => write!(f, "damaged safetensors file: {source}"),
            SafetensorsError::TooLarge(what) => write!(f, "the safetensors {what}, more than any model needs"),
            SafetensorsError::Json(source) => write!(f, "damaged safetensors index: {source}"),
            SafetensorsError::WeightMap => f.write_str("the safetensors index names no file"),
            SafetensorsError::ShardName(name) => {
                write!(f, "the safetensors index names {name:?}; shards are at most 1000 files in its own folder")
            }
        }
    }
}

impl core::error::Error for SafetensorsError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            SafetensorsError::File(source) => Some(source),
            SafetensorsError::Json(source) => Some(source),
            _ => None,
        }
    }
}
