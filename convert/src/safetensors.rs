//! Safetensors files, one or sharded by an index.

mod error;

pub use error::SafetensorsError;

use std::collections::BTreeSet;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::tensor::{Data, Named, Tensor};
use crate::torch::ElementType;

/// Maximum number of shards that an index may name.
const MAX_SHARDS: usize = 1000;

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
