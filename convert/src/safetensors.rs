//! Safetensors files, one or sharded by an index.

mod error;

pub use error::SafetensorsError;

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::tensor::{Data, MAX_NAME, MAX_TENSORS, Named, Tensor};
use crate::torch::ElementType;

/// Maximum number of shards that an index may name.
const MAX_SHARDS: usize = 1000;
/// Largest header, and largest index, in bytes. Those of the largest models are under 1 MB.
const MAX_JSON_BYTES: usize = 16 << 20;

/// What an index says.
#[derive(Deserialize)]
struct Index {
    /// Names of tensors to names of files.
    weight_map: BTreeMap<String, String>,
}

/// The tensors of one file, in name order.
pub(crate) fn open(bytes: &[u8]) -> Result<Vec<Named<'_>>, SafetensorsError> {
    let header = bytes.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    if header > MAX_JSON_BYTES as u64 {
        return Err(SafetensorsError::TooLarge("header has over 16 MiB"));
    }
    let file = SafeTensors::deserialize(bytes).map_err(SafetensorsError::File)?;
    if file.len() > MAX_TENSORS {
        return Err(SafetensorsError::TooLarge("file has over 16384 tensors"));
    }
    if file.iter().any(|(name, _)| name.len() > MAX_NAME) {
        return Err(SafetensorsError::TooLarge("file has a tensor's name of over 256 bytes"));
    }
    let mut tensors: Vec<_> = file.tensors().into_iter().map(|(name, view)| named_tensor(name, &view)).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// The file names of an index's shards, sorted.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>, SafetensorsError> {
    if index.len() > MAX_JSON_BYTES {
        return Err(SafetensorsError::TooLarge("index has over 16 MiB"));
    }
    let index: Index = serde_json::from_slice(index).map_err(SafetensorsError::Json)?;
    let mut shards = BTreeSet::new();
    for file in index.weight_map.into_values() {
        let plain = !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', '\0', ':']);
        if !plain || (shards.len() >= MAX_SHARDS && !shards.contains(&file)) {
            return Err(SafetensorsError::ShardName(file.chars().take(120).collect()));
        }
        shards.insert(file);
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
