//! The tensors of a checkpoint of any format, as they are listed.

use crate::torch::{ElementType, TensorRef};

/// A tensor of the checkpoint. Nothing about its data has been checked yet.
#[derive(Clone, Debug)]
pub(crate) struct Tensor<'a> {
    pub(crate) ty: ElementType,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

/// Where the data of a tensor are.
#[derive(Clone, Debug)]
pub(crate) enum Data<'a> {
    /// Here, row by row.
    Plain(&'a [u8]),
    /// In a storage of a PyTorch checkpoint.
    View(TensorRef<'a>),
}

/// A tensor and its name as the file has it.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) name: String,
    pub(crate) tensor: Tensor<'a>,
}

/// What a checkpoint says about sampling.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) noise_scale: Option<f32>,
}
