//! The plan of a conversion: metadata, the list of tensors, and how each is made from the checkpoint.

use denoir_core::DType;
use denoir_core::QuantResidual;
use denoir_core::gguf::{GgmlType, keys};
use denoir_core::ops::ROTATION;

use crate::arch::{self, NetworkSpec, Role};
use crate::checkpoint::{Checkpoint, Selection, select};
use crate::config::{Config, Family};
use crate::error::ConvertError;
use crate::preset::{self, Preset};
use crate::qwen3;
use crate::writer::{Entry, Metadata, declare_alignment};

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// A conversion, checked as far as possible without reading tensor data.
pub(crate) struct Plan<'a> {
    pub(crate) selection: Selection<'a>,
    pub(crate) network: NetworkSpec,
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    /// Every tensor of the file in order; an I8 matrix is followed by its scales and its residual, if any.
    pub(crate) entries: Vec<Entry>,
    /// Offset of the checkpoint's hash in the metadata section.
    pub(crate) sha256_at: u64,
}

/// The user's options, with the files they name already read.
#[derive(Clone, Debug)]
pub(crate) struct Request<'r> {
    pub(crate) weights: Option<&'r str>,
    pub(crate) dtype: DType,
    pub(crate) config: &'r Config,
    pub(crate) labels: Option<&'r [String]>,
    /// The files that accompany a text encoder's tensors.
    pub(crate) encoder: Option<&'r qwen3::Files>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(checkpoint: &Checkpoint<'a>, request: &Request<'_>) -> Result<Self, ConvertError> {
        if request.dtype == DType::U32 {
            return Err(ConvertError::WeightType(request.dtype));
        }
        if qwen3::recognise(checkpoint) {
            return Plan::of_encoder(checkpoint, request);
        }
        let selection = select(&checkpoint.tensors, request.weights)?;
        let network = arch::read(&selection.tensors, request.config)?;
        let family = family(&network, &selection, request.config)?;
        let preset = Preset::of(&network, family, checkpoint.hints, request.config);
        preset.check().map_err(ConvertError::Sampler)?;
        let needed = network.specs.iter().filter_map(|spec| selection.tensors.get_key_value(&spec.name));
        checkpoint.hold(needed.map(|(name, tensor)| (name.as_str(), tensor)))?;
        let name = request.config.name.clone().unwrap_or_else(|| preset::name(&network, family));
        check_labels(request.labels, &network)?;

        let mut metadata = Metadata::default();
        describe(&mut metadata, &network, &name, request.dtype);
        describe_sampling(&mut metadata, &preset);
        if let Some(labels) = request.labels {
            metadata.strings(keys::CLASS_NAMES, labels);
        }
        Plan::finish(checkpoint, selection, network, name, metadata, request.dtype)
    }

    /// A Qwen3 folder.
    fn of_encoder(checkpoint: &Checkpoint<'a>, request: &Request<'_>) -> Result<Self, ConvertError> {
        if let Some(wanted) = request.weights {
            return Err(ConvertError::Weights { wanted: wanted.into(), available: vec!["one unnamed set".into()] });
        }
        if request.labels.is_some() {
            return Err(ConvertError::Labels { reason: "a text encoder has no classes".into() });
        }
        let files = request.encoder.ok_or_else(|| ConvertError::TextEncoder {
            file: checkpoint.file.clone(),
            reason: "a text encoder needs config.json and tokenizer.json beside it".into(),
        })?;
        let qwen3::Parts { selection, network, name, metadata } = qwen3::read(checkpoint, files, request.dtype)?;
        let name = request.config.name.clone().unwrap_or(name);
        Plan::finish(checkpoint, selection, network, name, metadata, request.dtype)
    }

    /// Adds the last metadata and the tensors, which are the same for every file.
    fn finish(
        checkpoint: &Checkpoint<'a>,
        selection: Selection<'a>,
        network: NetworkSpec,
        name: String,
        mut metadata: Metadata,
        dtype: DType,
    ) -> Result<Self, ConvertError> {
        metadata.string(keys::SOURCE_FILE, &checkpoint.file);
        let sha256_at = metadata.string(keys::SOURCE_SHA256, &"0".repeat(SHA256_DIGITS));
        let entries = entries(&network, dtype)?;
        Ok(Plan { selection, network, name, metadata, entries, sha256_at })
    }
}

/// Takes the family from the configuration, or else from the checkpoint's layout. A bare state dict with two patch
/// projections counts as JiT, one with a single projection as PixelGen-XL.
fn family(network: &NetworkSpec, selection: &Selection<'_>, config: &Config) -> Result<Family, ConvertError> {
    if network.architecture == keys::ARCH_T2I {
        return match config.family {
            Some(Family::Jit) => Err(ConvertError::Contradiction {
                key: "family",
                config: "jit".into(),
                checkpoint: "pixelgen, by its text blocks".into(),
            }),
            _ => Ok(Family::PixelGen),
        };
    }
    let by_shape = if network.bottleneck { Family::Jit } else { Family::PixelGen };
    Ok(config.family.or(selection.family).unwrap_or(by_shape))
}

fn check_labels(labels: Option<&[String]>, network: &NetworkSpec) -> Result<(), ConvertError> {
    match labels {
        Some(labels) if labels.len() as u64 != network.classes => {
            Err(ConvertError::Labels { reason: format!("{} names for {} classes", labels.len(), network.classes) })
        }
        _ => Ok(()),
    }
}

pub(crate) fn describe(metadata: &mut Metadata, network: &NetworkSpec, name: &str, dtype: DType) {
    metadata.string(keys::ARCHITECTURE, network.architecture);
    metadata.string(keys::NAME, name);
    declare_alignment(metadata);
    match dtype {
        DType::F32 => metadata.u32(keys::FILE_TYPE, 0),
        DType::F16 => metadata.u32(keys::FILE_TYPE, 1),
        DType::BF16 => metadata.u32(keys::FILE_TYPE, 32),
        // ggml has no file type for plain I8 with row scales.
        DType::I8 => {
            metadata.u32(keys::QUANTIZATION_VERSION, 2);
            if network.specs.iter().any(|spec| spec.role == Role::Rotatable) {
                metadata.u32(keys::FEED_FORWARD_ROTATION, ROTATION as u32);
            }
        }
        // Refused by `Plan::new`.
        DType::U32 => {}
    }
    for &(key, size) in &network.sizes {
        metadata.u32(key, size);
    }
    metadata.string(keys::WEIGHT_TYPE, dtype.name());
}

pub(crate) fn describe_sampling(metadata: &mut Metadata, preset: &Preset) {
    metadata.string(keys::SAMPLER_METHOD, preset.method);
    metadata.u32(keys::SAMPLER_STEPS, preset.steps);
    metadata.f32(keys::SAMPLER_CFG_SCALE, preset.cfg_scale);
    metadata.f32(keys::SAMPLER_GUIDANCE_LO, preset.guidance.0);
    metadata.f32(keys::SAMPLER_GUIDANCE_HI, preset.guidance.1);
    metadata.f32(keys::SAMPLER_FLOW_SHIFT, preset.flow_shift);
    metadata.f32(keys::SAMPLER_NOISE_SCALE, preset.noise_scale);
    metadata.u32(keys::SAMPLER_ORDER, preset.order);
    metadata.string(keys::ROUNDING, preset.rounding);
}

pub(crate) fn entries(network: &NetworkSpec, dtype: DType) -> Result<Vec<Entry>, ConvertError> {
    let mut entries = Vec::with_capacity(network.specs.len() * 2);
    for spec in &network.specs {
        let overflow = || ConvertError::OutOfStorage(spec.name.clone());
        let ty = spec.role.stored(dtype);
        entries.push(Entry::new(spec.name.clone(), spec.shape.clone(), ty).ok_or_else(overflow)?);
        if ty == GgmlType::I8 {
            let rows = spec.shape.iter().take(1).copied().collect();
            let name = format!("{}{}", spec.name, keys::SCALE_SUFFIX);
            entries.push(Entry::new(name, rows, GgmlType::F32).ok_or_else(overflow)?);
            if spec.role == Role::Centred {
                let &[rows, columns] = spec.shape.as_slice() else { return Err(overflow()) };
                let bytes = QuantResidual::bytes(usize::try_from(columns).map_err(|_| overflow())?) as u64;
                let name = format!("{}{}", spec.name, keys::REST_SUFFIX);
                entries.push(Entry::new(name, vec![rows, bytes], GgmlType::I8).ok_or_else(overflow)?);
            }
        }
    }
    Ok(entries)
}
