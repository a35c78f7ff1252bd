//! PyTorch checkpoints: a zip file of stored entries, with `data.pkl` and one entry per storage.

mod classes;
mod pickle;
mod pickle_error;
mod value;
mod zip;

pub(crate) use classes::ElementType;
pub use pickle_error::PickleError;
pub use zip::ZipError;

use core::cell::RefCell;
use std::collections::HashSet;

use denoir_core::checked;
use pickle::Pickle;
pub(crate) use value::TensorRef;
use value::Value;
use zip::Zip;

use crate::error::ConvertError;
use crate::tensor::{Data, Hints, MAX_NAME, MAX_TENSORS, Named, Tensor};

/// A checkpoint file whose storages are looked up on demand.
#[derive(Debug)]
pub(crate) struct Storages<'a> {
    zip: Zip<'a>,
    /// Folder of the archive, with its slash.
    root: String,
    /// Entries whose checksum has been compared.
    verified: RefCell<HashSet<String>>,
}

/// The contents of a checkpoint file.
pub(crate) struct Contents<'a> {
    pub(crate) tensors: Vec<Named<'a>>,
    pub(crate) storages: Storages<'a>,
    pub(crate) hints: Hints,
}

/// The outer keys of a JiT checkpoint.
const JIT_GROUPS: [&str; 3] = ["model_ema1", "model_ema2", "model"];

/// Opens a checkpoint and lists its tensors; only `data.pkl` is read.
/// `stop` is asked from time to time.
pub(crate) fn open<'a>(bytes: &'a [u8], file: &str, stop: &dyn Fn() -> bool) -> Result<Contents<'a>, ConvertError> {
    let format = |reason| ConvertError::Format { file: file.into(), reason };
    let zip = Zip::parse(bytes).map_err(|source| zip_error(file, source))?;

    let root = root(&zip).ok_or_else(|| format("a zip file, but not a PyTorch checkpoint: it needs one data.pkl"))?;
    if zip.data(&format!("{root}constants.pkl")).is_some() {
        return Err(format("a TorchScript archive; save the model's state_dict with torch.save instead"));
    }
    if zip.data(&format!("{root}byteorder")).is_some_and(|order| order != b"little") {
        return Err(format("a big-endian PyTorch checkpoint; save it on a little-endian machine"));
    }
    let entry = format!("{root}data.pkl");
    if zip.data(&entry).is_some_and(|data| data.len() as u64 > pickle::MAX_BYTES) {
        return Err(ConvertError::Pickle { file: file.into(), source: PickleError::TooLarge("bytes") });
    }
    let data = zip.verified(&entry, stop).map_err(|source| zip_error(file, source))?;
    let pickle_error = |source| match source {
        PickleError::Stopped => ConvertError::Cancelled,
        source => ConvertError::Pickle { file: file.into(), source },
    };
    let pickle = Pickle::parse(data, stop).map_err(pickle_error)?;

    let tensors = tensors(&pickle).map_err(pickle_error)?;
    let hints = hints(&pickle);
    let storages = Storages { zip, root, verified: RefCell::default() };
    Ok(Contents { tensors, storages, hints })
}

fn zip_error(file: &str, source: ZipError) -> ConvertError {
    match source {
        ZipError::Stopped => ConvertError::Cancelled,
        source => ConvertError::Zip { file: file.into(), source },
    }
}

/// The one top-level folder with a `data.pkl`, with its slash.
fn root(zip: &Zip<'_>) -> Option<String> {
    let mut roots = zip.names().filter_map(|name| {
        let root = name.strip_suffix("data.pkl")?;
        root.strip_suffix('/').is_some_and(|folder| !folder.is_empty() && !folder.contains('/')).then_some(root)
    });
    let root = roots.next()?;
    roots.next().is_none().then(|| root.to_owned())
}

/// The named tensors of the parts that can hold a network: `state_dict`, JiT's groups (named `group.key`), or the whole
/// dictionary if it is a bare state dict.
fn tensors<'a>(pickle: &Pickle<'a>) -> Result<Vec<Named<'a>>, PickleError> {
    let mut out = Vec::new();
    let mut collect = |prefix: &str, dict: &Value<'a>| {
        for (name, value) in pickle.entries(dict) {
            if let Value::Tensor(tensor) = value {
                if out.len() >= MAX_TENSORS {
                    return Err(PickleError::TooLarge("tensors"));
                }
                if name.len() > MAX_NAME {
                    return Err(PickleError::TooLarge("bytes in a tensor's name"));
                }
                out.push(Named { name: format!("{prefix}{name}"), tensor: convert(tensor) });
            }
        }
        Ok(())
    };
    let root = pickle.root();
    if let Some(dict) = pickle.get(root, "state_dict") {
        collect("", dict)?;
    } else if JIT_GROUPS.iter().any(|group| pickle.get(root, group).is_some()) {
        for group in JIT_GROUPS {
            if let Some(dict) = pickle.get(root, group) {
                collect(&format!("{group}."), dict)?;
            }
        }
    } else {
        collect("", root)?;
    }
    Ok(out)
}

fn convert<'a>(tensor: &TensorRef<'a>) -> Tensor<'a> {
    Tensor { ty: tensor.storage.ty, shape: tensor.shape.clone(), data: Data::View(tensor.clone()) }
}

/// Training arguments that affect sampling: JiT scales its noise by `args.noise_scale`.
fn hints(pickle: &Pickle<'_>) -> Hints {
    let noise_scale = pickle.get(pickle.root(), "args").and_then(|args| pickle.get(args, "noise_scale"));
    let noise_scale = match noise_scale {
        Some(&Value::Float(scale)) => Some(scale as f32),
        Some(&Value::Int(scale)) => Some(scale as f32),
        _ => None,
    };
    Hints { noise_scale: noise_scale.filter(|scale| scale.is_finite() && *scale > 0.0) }
}

impl<'a> Storages<'a> {
    /// Compares the checksum of a tensor's storage, once. `stop` is asked from time to time.
    pub(crate) fn verify(
        &self,
        tensor: &TensorRef<'a>,
        file: &str,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), ConvertError> {
        let entry = self.entry(tensor);
        if !self.verified.borrow().contains(&entry) {
            self.zip.verified(&entry, stop).map_err(|source| zip_error(file, source))?;
            self.verified.borrow_mut().insert(entry);
        }
        Ok(())
    }

    /// Name of the entry that holds a tensor's storage.
    fn entry(&self, tensor: &TensorRef<'a>) -> String {
        format!("{}data/{}", self.root, tensor.storage.key)
    }

    /// The bytes of a tensor, row by row.
    pub(crate) fn bytes(&self, name: &str, tensor: &TensorRef<'a>, file: &str) -> Result<&'a [u8], ConvertError> {
        if !is_contiguous(&tensor.shape, &tensor.stride) {
            return Err(ConvertError::Strided(name.into()));
        }
        let entry = self.entry(tensor);
        let data = self.zip.data(&entry).ok_or_else(|| zip_error(file, ZipError::Missing(entry)))?;
        let range = || {
            let size = tensor.storage.ty.size()?;
            let whole = tensor.storage.len.checked_mul(size)?;
            let start = tensor.offset.checked_mul(size)?;
            let len = checked::elements(&tensor.shape)?.checked_mul(size)?;
            checked::range(checked::range(data, 0, whole)?, start, len)
        };
        range().ok_or_else(|| ConvertError::OutOfStorage(name.into()))
    }
}

/// Returns whether the strides are those of rows stored one after another. A dimension of one may have any stride.
fn is_contiguous(shape: &[u64], stride: &[u64]) -> bool {
    let mut expected = Some(1u64);
    shape.iter().zip(stride).rev().all(|(&size, &stride)| {
        let fits = size == 1 || expected == Some(stride);
        expected = expected.and_then(|e| e.checked_mul(size));
        fits
    })
}
