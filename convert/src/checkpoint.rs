//! Checkpoints of any format: named tensors whose bytes are located on demand.

use std::collections::BTreeMap;

use denoir_core::checked;

use crate::config::Family;
use crate::error::ConvertError;
use crate::safetensors::{self, SafetensorsError};
use crate::tensor::{Data, Hints, MAX_TENSORS, Named, Tensor};
use crate::torch::{self, Storages};

/// An opened checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint<'a> {
    /// File name, for messages.
    pub(crate) file: String,
    pub(crate) tensors: Vec<Named<'a>>,
    pub(crate) storages: Option<Storages<'a>>,
    pub(crate) hints: Hints,
    /// Length of all files in bytes.
    len: u64,
}

/// The format of a file, from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Torch,
    Safetensors,
    SafetensorsIndex,
}

/// Tells the format by content, never by file name.
pub(crate) fn sniff(bytes: &[u8], file: &str) -> Result<Kind, ConvertError> {
    let refuse = |reason| Err(ConvertError::Format { file: file.into(), reason });
    let first_printable = bytes.iter().find(|b| !b.is_ascii_whitespace());
    match bytes {
        [] => refuse("the file is empty"),
        [b'P', b'K', 3, 4, ..] => Ok(Kind::Torch),
        [b'G', b'G', b'U', b'F', ..] => refuse("already a GGUF file"),
        [0x80, 0x02..=0x05, ..] => refuse(
            "a PyTorch file in the old format without zip; load it and save it again with torch.save of PyTorch 1.6 or later",
        ),
        _ if bytes.get(257..262) == Some(b"ustar") => refuse(
            "a PyTorch file in the old tar format; load it and save it again with torch.save of PyTorch 1.6 or later",
        ),
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Kind::Safetensors),
        _ if first_printable == Some(&b'{') => Ok(Kind::SafetensorsIndex),
        _ => refuse("not a checkpoint: neither a PyTorch zip file (.ckpt, .pth) nor safetensors"),
    }
}

impl<'a> Checkpoint<'a> {
    /// Opens one file (or, for safetensors, all shards), given the bytes of each. `stop` is asked from time to time.
    pub(crate) fn open(
        kind: Kind,
        files: &[(String, &'a [u8])],
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, ConvertError> {
        let [(file, bytes), ..] = files else {
            return Err(ConvertError::Format { file: String::new(), reason: "no file" });
        };
        let len = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if kind == Kind::Torch {
            let torch::Contents { tensors, storages, hints } = torch::open(bytes, file, stop)?;
            return Ok(Checkpoint { file: file.clone(), tensors, storages: Some(storages), hints, len });
        }
        let mut tensors = Vec::new();
        for (file, bytes) in files {
            let damaged = |source| ConvertError::Safetensors { file: file.clone(), source };
            tensors.extend(safetensors::open(bytes).map_err(damaged)?);
            if tensors.len() > MAX_TENSORS {
                return Err(damaged(SafetensorsError::TooLarge("shards have over 16384 tensors")));
            }
            if stop() {
                return Err(ConvertError::Cancelled);
            }
        }
        Ok(Checkpoint { file: file.clone(), tensors, storages: None, hints: Hints::default(), len })
    }

    /// Compares the checksum of the file's part that holds a tensor, if it has one. `stop` is asked from time to time.
    pub(crate) fn verify(&self, tensor: &Tensor<'a>, stop: &dyn Fn() -> bool) -> Result<(), ConvertError> {
        match (&tensor.data, &self.storages) {
            (Data::View(view), Some(storages)) => storages.verify(view, &self.file, stop),
            _ => Ok(()),
        }
    }

    /// Checks that these tensors lie in the checkpoint, and that together they are no larger than it: a small file
    /// cannot be the source of a large one.
    pub(crate) fn hold<'t>(&self, tensors: impl Iterator<Item = (&'t str, &'t Tensor<'a>)>) -> Result<(), ConvertError>
    where
        'a: 't,
    {
        let mut total = 0u64;
        for (name, tensor) in tensors {
            total = total.saturating_add(self.bytes(name, tensor)?.len() as u64);
            if total > self.len {
                return Err(ConvertError::Shared(name.into()));
            }
        }
        Ok(())
    }

    /// The bytes of a tensor, row by row.
    pub(crate) fn bytes(&self, name: &str, tensor: &Tensor<'a>) -> Result<&'a [u8], ConvertError> {
        let size = tensor
            .ty
            .size()
            .ok_or_else(|| ConvertError::TensorType { tensor: name.into(), found: tensor.ty.name() })?;
        match (&tensor.data, &self.storages) {
            (Data::Plain(bytes), _) => {
                let wanted = checked::elements(&tensor.shape).and_then(|n| n.checked_mul(size));
                if wanted != Some(bytes.len() as u64) {
                    return Err(ConvertError::OutOfStorage(name.into()));
                }
                Ok(bytes)
            }
            (Data::View(view), Some(storages)) => storages.bytes(name, view, &self.file),
            (Data::View(_), None) => Err(ConvertError::OutOfStorage(name.into())),
        }
    }
}

/// The tensors of one network by upstream's names, prefix dropped.
pub(crate) type Tensors<'a> = BTreeMap<String, Tensor<'a>>;

/// One set of weights of a checkpoint.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    /// `ema`, `raw`, `model_ema1`, `model_ema2`, `model`; empty for the only, unnamed set.
    pub(crate) weights: &'static str,
    /// The project whose checkpoints use these names; `None` if they do not tell.
    pub(crate) family: Option<Family>,
    pub(crate) tensors: Tensors<'a>,
}

/// A prefix of tensor names, the set of weights that it marks, and its project.
struct Layout {
    prefixes: &'static [&'static str],
    weights: &'static str,
    family: Family,
}

/// Longer prefixes first. The order of the sets is the order of preference.
const LAYOUTS: [Layout; 5] = [
    Layout { prefixes: &["ema_denoiser."], weights: "ema", family: Family::PixelGen },
    Layout { prefixes: &["denoiser."], weights: "raw", family: Family::PixelGen },
    Layout { prefixes: &["model_ema1.net.", "model_ema1."], weights: "model_ema1", family: Family::Jit },
    Layout { prefixes: &["model_ema2.net.", "model_ema2."], weights: "model_ema2", family: Family::Jit },
    Layout { prefixes: &["model.net.", "model."], weights: "model", family: Family::Jit },
];

/// Picks one set of weights: the requested one, or else upstream's EMA (`ema`, `model_ema1`), or else the only one.
///
/// # Errors
/// [`ConvertError::Weights`] if the set is missing, [`ConvertError::DuplicateTensor`].
pub(crate) fn select<'a>(named: &[Named<'a>], wanted: Option<&str>) -> Result<Selection<'a>, ConvertError> {
    let clean: Vec<(String, &Tensor<'a>)> = named.iter().map(|n| (drop_orig_mod(&n.name), &n.tensor)).collect();
    let has = |layout: &Layout| clean.iter().any(|(name, _)| strip(name, layout.prefixes).is_some());
    let present: Vec<&Layout> = LAYOUTS.iter().filter(|layout| has(layout)).collect();

    let Some(first) = present.first() else {
        return unnamed(&clean, wanted);
    };
    let wanted = match (wanted, first.family) {
        (Some("ema"), Family::Jit) | (None, Family::Jit) => "model_ema1",
        (Some("raw"), Family::Jit) => "model",
        (None, Family::PixelGen) => "ema",
        (Some(other), _) => other,
    };
    let Some(layout) = present.iter().find(|layout| layout.weights == wanted) else {
        let available = present.iter().map(|layout| layout.weights.to_owned()).collect();
        return Err(ConvertError::Weights { wanted: wanted.into(), available });
    };
    let tensors = clean.iter().filter_map(|(name, tensor)| Some((strip(name, layout.prefixes)?, *tensor)));
    Ok(Selection { weights: layout.weights, family: Some(layout.family), tensors: gather(tensors)? })
}

/// A file with one set of weights: all under `net.`, or without any prefix.
fn unnamed<'a>(clean: &[(String, &Tensor<'a>)], wanted: Option<&str>) -> Result<Selection<'a>, ConvertError> {
    if let Some(wanted) = wanted {
        return Err(ConvertError::Weights { wanted: wanted.into(), available: vec!["one unnamed set".into()] });
    }
    let net = clean.iter().any(|(name, _)| name.starts_with("net."));
    let prefix = if net { "net." } else { "" };
    let tensors = clean.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, *tensor)));
    Ok(Selection { weights: "", family: net.then_some(Family::Jit), tensors: gather(tensors)? })
}

fn gather<'a, 'n>(items: impl Iterator<Item = (&'n str, &'n Tensor<'a>)>) -> Result<Tensors<'a>, ConvertError>
where
    'a: 'n,
{
    let mut tensors = Tensors::new();
    for (name, tensor) in items {
        if tensors.insert(name.to_owned(), tensor.clone()).is_some() {
            return Err(ConvertError::DuplicateTensor(name.to_owned()));
        }
    }
    Ok(tensors)
}

fn strip<'n>(name: &'n str, prefixes: &[&str]) -> Option<&'n str> {
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))
}

/// Drops the component that `torch.compile` adds to names.
fn drop_orig_mod(name: &str) -> String {
    let kept: Vec<&str> = name.split('.').filter(|part| *part != "_orig_mod").collect();
    kept.join(".")
}
