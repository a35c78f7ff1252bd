//! A network as data, and what the networks' tables are made with.

use denoir_core::DType;
use denoir_core::gguf::GgmlType;

use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::ConvertError;

/// How a tensor may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Always F32, for any weight type: norms, biases, positions. They are small and are added in f32.
    Keep,
    /// A matrix of the patch embedding, the final layer or adaLN: f16 if the weight type is int8.
    Matrix,
    /// A matrix of attention or FFN, which account for most FLOPs and tolerate int8.
    Quantizable,
    /// The same, with its int8 residual, for activations that may be centred.
    Centred,
    /// The same, with rows that are rotated if stored as int8.
    Rotatable,
}

impl Role {
    /// The stored type if the weights are `dtype`.
    pub(crate) fn stored(self, dtype: DType) -> GgmlType {
        match (self, dtype) {
            (Role::Keep, _) => GgmlType::F32,
            (Role::Matrix, DType::I8) => GgmlType::F16,
            (_, dtype) => dtype.into(),
        }
    }
}

/// A tensor of the network.
#[derive(Clone, Debug)]
pub(crate) struct TensorSpec {
    pub(crate) name: String,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) role: Role,
}

/// A network of known sizes.
#[derive(Clone, Debug)]
pub(crate) struct NetworkSpec {
    /// `general.architecture`.
    pub(crate) architecture: &'static str,
    /// Hyper-parameter keys of `denoir_core::gguf::keys` and their values.
    pub(crate) sizes: Vec<(&'static str, u32)>,
    pub(crate) specs: Vec<TensorSpec>,
    /// The facts that presets and names depend on.
    pub(crate) depth: u64,
    pub(crate) hidden: u64,
    pub(crate) input_size: u64,
    pub(crate) patch_size: u64,
    /// Number of classes; 0 for a network without classes.
    pub(crate) classes: u64,
    pub(crate) bottleneck: bool,
}

/// Collects a network's tensors.
#[derive(Default)]
pub(super) struct Table(pub(super) Vec<TensorSpec>);

impl Table {
    pub(super) fn push(&mut self, name: impl Into<String>, shape: &[u64], role: Role) {
        self.0.push(TensorSpec { name: name.into(), shape: shape.to_vec(), role });
    }

    pub(super) fn keep(&mut self, name: impl Into<String>, shape: &[u64]) {
        self.push(name, shape, Role::Keep);
    }

    pub(super) fn matrix(&mut self, name: impl Into<String>, shape: &[u64]) {
        self.push(name, shape, Role::Matrix);
    }

    pub(super) fn rotatable(&mut self, name: impl Into<String>, shape: &[u64]) {
        self.push(name, shape, Role::Rotatable);
    }

    pub(super) fn centred(&mut self, name: impl Into<String>, shape: &[u64]) {
        self.push(name, shape, Role::Centred);
    }

    pub(super) fn quantizable(&mut self, name: impl Into<String>, shape: &[u64]) {
        self.push(name, shape, Role::Quantizable);
    }

    /// `prefix.weight` and `prefix.bias` of a linear layer at an end of the network.
    pub(super) fn linear(&mut self, prefix: &str, rows: u64, columns: u64) {
        self.matrix(format!("{prefix}.weight"), &[rows, columns]);
        self.keep(format!("{prefix}.bias"), &[rows]);
    }
}

/// The shape of a tensor that must have `N` dimensions, none of them zero.
pub(super) fn shape<const N: usize>(tensors: &Tensors<'_>, name: &str) -> Result<[u64; N], ConvertError> {
    let tensor = tensors.get(name).ok_or_else(|| ConvertError::MissingTensor(name.into()))?;
    let shape = <[u64; N]>::try_from(tensor.shape.as_slice()).ok().filter(|dims| !dims.contains(&0));
    shape.ok_or_else(|| wrong(name, &tensor.shape, format!("{N} dimensions, none zero,")))
}

pub(super) fn wrong(name: &str, found: &[u64], wanted: impl Into<String>) -> ConvertError {
    ConvertError::Shape { tensor: name.into(), found: found.to_vec(), wanted: wanted.into() }
}

/// Number of blocks: consecutive indices from 0 for which `prefix.N.suffix` exists.
pub(super) fn count_blocks(tensors: &Tensors<'_>, prefix: &str, suffix: &str) -> u64 {
    (0u64..).take_while(|i| tensors.contains_key(&format!("{prefix}.{i}.{suffix}"))).count() as u64
}

/// The side of a square grid of `tokens`.
pub(super) fn grid_side(tokens: u64, name: &str, found: &[u64]) -> Result<u64, ConvertError> {
    let side = tokens.isqrt();
    if side.checked_mul(side) == Some(tokens) { Ok(side) } else { Err(wrong(name, found, "a square number of tokens")) }
}

/// Number of heads of `head_dim` channels in `hidden`.
pub(super) fn head_count(hidden: u64, head_dim: u64, name: &str) -> Result<u64, ConvertError> {
    if hidden.is_multiple_of(head_dim) && head_dim.is_multiple_of(4) {
        Ok(hidden / head_dim)
    } else {
        Err(wrong(name, &[head_dim], format!("a divisor of {hidden} and multiple of 4")))
    }
}

/// Converts a size for the metadata, which holds 32-bit sizes.
pub(super) fn narrow(sizes: &[(&'static str, u64)]) -> Result<Vec<(&'static str, u32)>, ConvertError> {
    let narrow = |&(key, size): &(&'static str, u64)| match u32::try_from(size) {
        Ok(size) => Ok((key, size)),
        Err(_) => {
            Err(ConvertError::Contradiction { key, config: "at most 4294967295".into(), checkpoint: size.to_string() })
        }
    };
    sizes.iter().map(narrow).collect()
}

/// Checks that each size in the configuration matches the tensors.
pub(super) fn agree(config: &Config, sizes: &[(&'static str, u64)]) -> Result<(), ConvertError> {
    for &(key, checkpoint) in sizes {
        if let Some(said) = config.size(key).filter(|said| *said != checkpoint) {
            let checkpoint = checkpoint.to_string();
            return Err(ConvertError::Contradiction { key, config: said.to_string(), checkpoint });
        }
    }
    Ok(())
}
