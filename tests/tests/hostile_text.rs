//! What a prompt goes through, damaged: the text encoder's file, and the folder that it is made from. Every truncation
//! and every flipped bit of a header gives a typed error or embeddings, never a panic or an outsized allocation.

use std::path::Path;

use anyhow::Result;
use denoir::core::gguf::Gguf;
use denoir::{Options, TextEncoder};
use denoir_tests::convert_checkpoint::Float;
use denoir_tests::hostile_alloc::{CountingAllocator, every_damage, peak_bytes};
use denoir_tests::tiny_encoder::{CONFIG, tokenizer_json, write};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Converts the folder; the message of the error, which must be one line.
fn convert(folder: &Path, out: &Path) -> Result<(), String> {
    let converted =
        denoir_convert::convert(&folder.join("model.safetensors"), out, &Default::default(), &mut |_| {}).map(drop);
    let message = converted.map_err(|e| e.to_string());
    assert!(message.as_ref().err().is_none_or(|m| !m.contains('\n')), "{message:?}");
    message
}

/// Opens the file and encodes a prompt with it.
fn encode(file: &Path) -> Result<Vec<f32>, denoir::Error> {
    let options = Options { threads: Some(1), ..Options::default() };
    Ok(TextEncoder::open(file)?.encode(&["ab a"], 4, &options)?.values)
}

#[test]
fn every_damage_of_a_text_encoder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encoder.gguf");
    write(folder.path(), Float::BF16)?;
    convert(folder.path(), &file).map_err(anyhow::Error::msg)?;
    let good = std::fs::read(&file)?;
    let header = usize::try_from(Gguf::parse(&good)?.data_start())?;
    assert!(encode(&file)?.iter().all(|x| x.is_finite()));
    let (mut encoded, mut refused) = (0, 0);
    every_damage(
        &good,
        |at| if at < header { 0xff } else { 0 },
        |bytes, what| {
            std::fs::write(&file, bytes).unwrap();
            let (result, peak) = peak_bytes(|| encode(&file));
            // The tokenizer's compiled expression is most of it.
            assert!(peak < 8 << 20, "{}: {peak} bytes allocated", what());
            match result {
                Ok(values) => encoded += usize::from(values.iter().all(|x| x.is_finite())),
                Err(error) => {
                    assert!(!error.to_string().contains('\n'), "{}: {error}", what());
                    refused += 1;
                }
            }
        },
    );
    assert!(encoded > 0 && refused > header, "{encoded} encoded, {refused} refused");
    Ok(())
}

#[test]
fn every_damage_of_what_lies_beside_the_tensors() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), Float::BF16)?;
    let out = folder.path().join("out.gguf");
    for (name, good) in [("config.json", CONFIG.to_owned()), ("tokenizer.json", tokenizer_json())] {
        convert(folder.path(), &out).map_err(anyhow::Error::msg)?;
        let mut refused = 0;
        // One bit of each byte: each conversion waits for the disk.
        every_damage(
            good.as_bytes(),
            |at| 1 << (at % 8),
            |bytes, what| {
                std::fs::write(folder.path().join(name), bytes).unwrap();
                let (result, peak) = peak_bytes(|| convert(folder.path(), &out));
                assert!(peak < 2 << 20, "{name}, {}: {peak} bytes allocated", what());
                refused += usize::from(result.is_err());
            },
        );
        assert!(refused > good.len(), "{name}: {refused} refused");
        std::fs::write(folder.path().join(name), good)?;
    }
    Ok(())
}
