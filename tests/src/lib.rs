//! Tests that cross crates, and their shared code.

pub mod convert_checkpoint;
pub mod cuda;
pub mod golden;
pub mod hostile_alloc;
pub mod op_matrix;
pub mod tiny_encoder;
pub mod vulkan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use denoir::{AlignedBytes, Method, Model, Settings};
use denoir_core::DType;

/// The folder `fixtures`: the one named by `DENOIR_FIXTURES`, for test programs copied to another machine, or the one
/// in the source tree.
///
/// # Panics
/// Where the environment names no folder.
pub fn fixtures() -> PathBuf {
    let Some(named) = std::env::var_os("DENOIR_FIXTURES").map(PathBuf::from) else {
        return Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    };
    assert!(named.is_dir(), "DENOIR_FIXTURES is no folder: {}", named.display());
    named
}

/// A checkpoint of `fixtures/checkpoints`, converted to weights of this type.
///
/// # Errors
/// Whatever conversion or opening reports.
pub fn model(checkpoint: &str, config: &str, dtype: DType) -> Result<Arc<Model>> {
    let folder = fixtures().join("checkpoints");
    let out = tempfile::tempdir()?;
    let gguf = out.path().join("model.gguf");
    let options =
        denoir_convert::Options { dtype: Some(dtype), config: Some(folder.join(config)), ..Default::default() };
    denoir_convert::convert(&folder.join(checkpoint), &gguf, &options, &mut |_| {})?;
    Ok(Arc::new(Model::from_bytes(AlignedBytes::copied(&std::fs::read(gguf)?)?)?))
}

/// Settings for Heun with guidance in the middle, which cover both kinds of evaluation and both kinds of step.
pub fn settings() -> Settings {
    Settings {
        method: Method::Heun,
        steps: 4,
        cfg_scale: 2.0,
        guidance_interval: (0.1, 0.9),
        flow_shift: 2.0,
        noise_scale: 1.0,
        order: 2,
    }
}
