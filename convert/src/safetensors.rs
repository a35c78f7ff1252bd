//! Safetensors files, one or sharded by an index.

use core::fmt;
use std::collections::BTreeSet;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;

use crate::checkpoint::{Data, Named, Tensor};
use crate::torch::ElementType;

/// Most shards that an index may name.
const MAX_SHARDS: usize = 1000;

/// Why a safetensors file or index was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file is damaged.
    File(SafeTensorError),
    /// The index is not JSON.
    Json(serde_json::Error),
    /// The index has no `weight_map` of names to file names.
    WeightMap,
    /// The index names a file outside its own folder, or too many files.
    ShardName(String),
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SafetensorsError::File(source) => write!(f, "damaged safetensors file: {source}"),
            SafetensorsError::Json(source) => write!(f, "damaged safetensors index: {source}"),
            SafetensorsError::WeightMap => f.write_str("the safetensors index has no \"weight_map\" of file names"),
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

/// The tensors of one file, in name order.
pub(crate) fn open(bytes: &[u8]) -> Result<Vec<Named<'_>>, SafetensorsError> {
    let file = SafeTensors::deserialize(bytes).map_err(SafetensorsError::File)?;
    let mut tensors: Vec<_> = file.tensors().into_iter().map(|(name, view)| named_tensor(name, &view)).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// The file names of an index's shards, sorted.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>, SafetensorsError> {
    let index: Value = serde_json::from_slice(index).map_err(SafetensorsError::Json)?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or(SafetensorsError::WeightMap)?;
    let mut shards = BTreeSet::new();
    for file in map.values() {
        let file = file.as_str().ok_or(SafetensorsError::WeightMap)?;
        let plain = !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', '\0', ':']);
        if !plain || (shards.len() >= MAX_SHARDS && !shards.contains(file)) {
            return Err(SafetensorsError::ShardName(file.chars().take(120).collect()));
        }
        shards.insert(file.to_owned());
    }
    if shards.is_empty() { Err(SafetensorsError::WeightMap) } else { Ok(shards.into_iter().collect()) }
}

fn named_tensor<'a>(name: String, view: &TensorView<'a>) -> Named<'a> {
    let shape = view.shape().iter().map(|&dim| dim as u64).collect();
    Named { name, tensor: Tensor { ty: element_type(view.dtype()), shape, data: Data::Plain(view.data()) } }
}

fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::F64 => ElementType::F64,
        Dtype::I64 => ElementType::Other("int64"),
        Dtype::I32 => ElementType::Other("int32"),
        Dtype::I16 => ElementType::Other("int16"),
        Dtype::I8 => ElementType::Other("int8"),
        Dtype::U8 => ElementType::Other("uint8"),
        Dtype::BOOL => ElementType::Other("bool"),
        _ => ElementType::Other("an unsupported type"),
    }
}
