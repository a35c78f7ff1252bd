//! The networks: for each, a table of its tensors, and the sizes derived from their shapes.
//!
//! A network is data, not code: [`NetworkSpec`] lists every tensor with its exact shape and how it may be stored. To add
//! a network, add a module that builds the table and one line to [`read`].

pub(crate) mod jit;
mod network;
pub(crate) mod t2i;

pub(crate) use network::{NetworkSpec, Role, TensorSpec};

use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::ConvertError;

/// Recognises the network by its tensors and checks that it is complete: every tensor is present with the right shape,
/// and all others are buffers that the engine computes itself.
pub(crate) fn read(tensors: &Tensors<'_>, config: &Config) -> Result<NetworkSpec, ConvertError> {
    let has = |name: &str| tensors.contains_key(name);
    let network = if has("y_pos_embedding") || has("blocks.0.attn.kv_y.weight") {
        t2i::read(tensors, config)?
    } else if has("y_embedder.embedding_table.weight") || has("blocks.0.attn.qkv.weight") {
        jit::read(tensors, config)?
    } else {
        let example = tensors.keys().next().cloned().unwrap_or_default();
        return Err(ConvertError::UnknownNetwork { example });
    };
    check(tensors, &network.specs)?;
    Ok(network)
}

fn check(tensors: &Tensors<'_>, specs: &[TensorSpec]) -> Result<(), ConvertError> {
    for spec in specs {
        let tensor = tensors.get(&spec.name).ok_or_else(|| ConvertError::MissingTensor(spec.name.clone()))?;
        if tensor.shape != spec.shape {
            return Err(ConvertError::Shape {
                tensor: spec.name.clone(),
                found: tensor.shape.clone(),
                wanted: format!("{:?}", spec.shape),
            });
        }
    }
    let known: std::collections::BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    match tensors.keys().find(|name| !known.contains(name.as_str()) && !is_computed(name)) {
        Some(name) => Err(ConvertError::UnexpectedTensor(name.clone())),
        None => Ok(()),
    }
}

/// Buffers that some versions of upstream save and that the engine computes: the rotary tables.
fn is_computed(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "freqs" | "freqs_cos" | "freqs_sin" | "inv_freq") || name.starts_with("feat_rope")
}
