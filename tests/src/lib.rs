//! Tests that cross crates, and their shared code.

pub mod convert_checkpoint;
pub mod cuda;
pub mod golden;
pub mod hostile_alloc;
pub mod not_finite;
pub mod op_matrix;
pub mod tiny_encoder;
pub mod vulkan;

use std::path::{Path, PathBuf};

use denoir::{Method, Settings};

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
