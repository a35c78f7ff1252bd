//! A damaged model file gives a typed error or images, never a panic: every truncation at a header byte and every
//! single flipped bit of the header, opened, planned and, where it still is a model, drawn from.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use denoir::{AlignedBytes, Condition, Model, Options, Pipeline, Request, Settings};
use denoir_core::gguf::Gguf;

/// The smallest model there is: that of the bare-machine test.
fn tiny() -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bare/tiny.gguf");
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// Whether the bytes made a pipeline and an image.
fn draw(bytes: &[u8]) -> Result<bool> {
    let Ok(model) = Model::from_bytes(AlignedBytes::copied(bytes)?) else { return Ok(false) };
    let model = Arc::new(model);
    let options = Options { threads: Some(1), ..Options::default() };
    let Ok(mut pipeline) = Pipeline::new(Arc::clone(&model), &options) else { return Ok(false) };
    // A flipped bit may well ask for ten thousand steps; one shows as much.
    let settings = Settings { steps: 1, ..*model.preset() };
    let request = Request { settings, ..Request::preset(&model, Condition::Labels(&[0])) };
    Ok(pipeline.generate(&request, &mut |_| ControlFlow::Continue(())).is_ok())
}

#[test]
fn a_damaged_header_is_an_error_or_a_model() -> Result<()> {
    let whole = tiny()?;
    assert!(draw(&whole)?, "the undamaged model draws");
    let header = usize::try_from(Gguf::parse(&whole)?.data_start())?;
    let mut drawn = 0;
    for bit in 0..header * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        drawn += usize::from(draw(&bytes)?);
    }
    // Names, class names and unused settings may change without harm; sizes, types and offsets may not.
    assert!(drawn > 0 && drawn < header * 4, "{drawn} of {} damaged files draw", header * 8);
    for len in 0..=header {
        assert!(!draw(&whole[..len])?, "{len} bytes of {} draw", whole.len());
    }
    assert!(!draw(&whole[..whole.len() - 1])?, "the last byte is missing");
    Ok(())
}
