//! The listed tensors of a checkpoint of any format.

use crate::torch::{ElementType, TensorRef};

/// Maximum number of tensors of a checkpoint. In a pickle every entry of a dictionary may refer to one name, and each
/// becomes a copy.
pub(crate) const MAX_TENSORS: usize = 1 << 14;
/// Maximum bytes of a tensor's name.
pub(crate) const MAX_NAME: usize = 256;

/// A tensor of the checkpoint. Nothing about its data has been checked yet.
#[derive(Clone, Debug)]
pub(crate) struct Tensor<'a> {
    pub(crate) ty: ElementType,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

/// The location of a tensor's data.
#[derive(Clone, Debug)]
pub(crate) enum Data<'a> {
    /// In these bytes, row by row.
    Plain(&'a [u8]),
    /// In a storage of a PyTorch checkpoint.
    View(TensorRef<'a>),
}

/// A tensor, with its name in the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) name: String,
    pub(crate) tensor: Tensor<'a>,
}

/// Sampler settings recorded in a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) noise_scale: Option<f32>,
}
