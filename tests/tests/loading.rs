//! Files that are read draw what mapped files draw: what a pipeline reads for itself is all that is missing elsewhere.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use denoir::{Condition, Isa, Model, Options, Pipeline, PromptEmbeds, Request};
use denoir_core::DType;
use denoir_tests::golden::{FORWARD, model};
use denoir_tests::settings;

/// Values that differ.
fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i % 23) as f32 - 11.0) / 7.0).collect()
}

/// A sample, and what one evaluation gives while every intermediate tensor is looked at.
fn draw(model: &Arc<Model>, options: &Options) -> Result<(Vec<f32>, Vec<f32>)> {
    let (tokens, width) = model.network().text_size().unwrap_or_default();
    let (prompt, negative) = (ramp(tokens * width), vec![0.25; tokens * width]);
    let condition = match tokens {
        0 => Condition::Labels(&[1]),
        _ => Condition::Prompt(PromptEmbeds { prompt: &prompt, negative: &negative, images: 1 }),
    };
    let mut pipeline = Pipeline::new(Arc::clone(model), options)?;
    let request = Request { settings: settings(), ..Request::preset(model, condition) };
    let mut images = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    let x = ramp(model.network().pixels());
    let mut x_hat = vec![0.0; x.len()];
    pipeline.with_tap(&mut |_, _, _| {}, |denoiser| denoiser.prepare(0.5, condition)?.predict(&x, &mut x_hat))?;
    Ok((images.remove(0).sample, x_hat))
}

#[test]
fn every_network_and_type_draws_one_image_read_or_mapped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    for name in FORWARD {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
            let mapped = model(name, dtype)?;
            std::fs::write(&path, mapped.bytes())?;
            let read = Arc::new(Model::open(&path)?);
            assert!(read.bytes().len() == mapped.bytes().len() && read.bytes() != mapped.bytes());
            for isa in Isa::available() {
                let options = Options { isa: Some(isa), threads: Some(2), ..Options::default() };
                assert!(draw(&read, &options)? == draw(&mapped, &options)?, "{name} {dtype} {}", isa.name());
            }
        }
    }
    Ok(())
}

/// A header of any length is found.
#[test]
fn a_header_longer_than_the_first_part_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    let mapped = model("forward/pg-ctx", DType::F32)?;
    let file = mapped.bytes();
    let gguf = denoir_core::gguf::Gguf::parse(file)?;
    // Another key before the others, with a string of megabytes; tensors keep their distance from the header's end.
    let (counts, rest) = file[8..].split_at(16);
    let mut entry = Vec::new();
    entry.extend(4u64.to_le_bytes());
    entry.extend(b"long");
    entry.extend(8u32.to_le_bytes());
    let alignment = gguf.alignment() as usize;
    let length = (3 << 20) / alignment * alignment + alignment - (entry.len() + 8) % alignment;
    entry.extend((length as u64).to_le_bytes());
    entry.resize(entry.len() + length, b'x');
    let entries = u64::from_le_bytes(counts[8..].try_into()?) + 1;
    let long = [&file[..8], &counts[..8], &entries.to_le_bytes(), &entry, rest].concat();
    std::fs::write(&path, long)?;
    let options = Options { threads: Some(2), ..Options::default() };
    assert!(draw(&Arc::new(Model::open(&path)?), &options)? == draw(&mapped, &options)?);
    // Cut anywhere, it is refused.
    let long = std::fs::read(&path)?;
    for len in [0, 3, 100, 1 << 20, 3 << 20, long.len() - 1] {
        std::fs::write(&path, &long[..len])?;
        assert!(matches!(Model::open(&path), Err(denoir::Error::Model(Some(_), _))), "{len} bytes");
    }
    Ok(())
}
