//! A damaged model file gives a typed error or images, never a panic: every truncation at a header byte and every
//! single flipped bit of the header, opened, planned and, where it still is a model, drawn from.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use denoir::{AlignedBytes, Condition, Model, Options, Pipeline, Request, Settings};
use denoir_core::gguf::{Gguf, MAX_TENSORS};

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

/// The model behind as many other tensors as a file may have.
fn among_many(whole: &[u8]) -> Result<Vec<u8>> {
    let gguf = Gguf::parse(whole)?;
    let first = gguf.tensors().next().context("no tensor")?.name;
    let infos = whole.windows(first.len()).position(|w| w == first.as_bytes()).context("no list")? - 8;
    let (alignment, own) = (gguf.alignment(), gguf.tensor_count() as u64);
    let mut list = Vec::new();
    let mut add = |name: &str, dims: &[usize], code: u32, offset: u64| {
        list.extend((name.len() as u64).to_le_bytes());
        list.extend(name.as_bytes());
        list.extend((dims.len() as u32).to_le_bytes());
        dims.iter().rev().for_each(|&dim| list.extend((dim as u64).to_le_bytes()));
        list.extend(code.to_le_bytes());
        list.extend(offset.to_le_bytes());
    };
    let others = MAX_TENSORS - own;
    (0..others).for_each(|i| add(&format!("blocks.0.unused.{i}"), &[1], 0, i * alignment));
    for t in gguf.tensors() {
        add(t.name, &t.dims, t.ggml_type.code(), t.offset - gguf.data_start() + others * alignment);
    }
    let mut bytes = [&whole[..8], &MAX_TENSORS.to_le_bytes(), &whole[16..infos], &list].concat();
    bytes.resize(bytes.len().next_multiple_of(alignment as usize) + (others * alignment) as usize, 0);
    bytes.extend(&whole[gguf.data_start() as usize..]);
    Ok(bytes)
}

#[test]
fn a_model_among_many_tensors_opens_at_once() -> Result<()> {
    let bytes = among_many(&tiny()?)?;
    let start = Instant::now();
    assert!(draw(&bytes)?, "it is the same model");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    Ok(())
}
