//! A damaged model file gives a typed error or is read to its end; never a panic, never an allocation.

use std::io::Cursor;

use denoir_convert::{Config, convert_bytes};
use denoir_core::DType;
use denoir_core::gguf::{Gguf, GgufError, Value, keys};
use denoir_tests::convert_checkpoint::{Float, TINY_CONFIG, lightning, tiny_jit};
use denoir_tests::hostile_alloc::{CountingAllocator, every_damage, peak_bytes};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn model(dtype: DType) -> Vec<u8> {
    let tiny = tiny_jit(true, 1);
    let (config, mut out) = (Config::parse(TINY_CONFIG.as_bytes()).unwrap(), Cursor::new(Vec::new()));
    let labels = ["one", "zwei", "три"].map(String::from);
    let ckpt = lightning(&tiny, &tiny, Float::F32);
    convert_bytes(&ckpt, "tiny.ckpt", &mut out, None, dtype, &config, Some(&labels)).unwrap();
    out.into_inner()
}

/// Parses and then touches everything that a parsed file gives access to.
fn read_all(bytes: &[u8]) -> Result<u64, GgufError> {
    let gguf = Gguf::parse(bytes)?;
    let mut sum = 0u64;
    for (key, value) in gguf.metadata() {
        sum += key.len() as u64;
        if let Value::Array(array) = value {
            sum += array.iter().count() as u64;
        }
        let _ =
            (gguf.string(key), gguf.u32(key), gguf.f32(key), gguf.bool(key), gguf.strings(key).map(Iterator::count));
    }
    for tensor in gguf.tensors() {
        sum += tensor.data.iter().map(|b| u64::from(*b)).sum::<u64>() + tensor.dims.elements() as u64;
        match gguf.tensor(tensor.name) {
            Ok(found) => assert_eq!((found.offset, found.data.len()), (tensor.offset, tensor.data.len())),
            Err(GgufError::TensorType { .. }) => {}
            Err(error) => panic!("a listed tensor is not found: {error}"),
        }
    }
    Ok(sum)
}

#[test]
fn every_damage_of_a_model_file() {
    let good = model(DType::I8);
    assert!(good.len() < 20_000, "{} bytes", good.len());
    let header = Gguf::parse(&good).unwrap().data_start() as usize;
    let last = Gguf::parse(&good).unwrap().tensors().last().map(|t| t.offset as usize + t.data.len()).unwrap();
    let (mut errors, mut read) = (0u32, 0u32);
    every_damage(
        &good,
        |at| if at < header { 0xff } else { 0 },
        |bytes, what| {
            let (result, peak) = peak_bytes(|| read_all(bytes));
            assert_eq!(peak, 0, "{}: the reader allocated", what());
            match result {
                // What is cut off behind the last tensor is padding.
                Ok(_) => {
                    assert!(bytes.len() >= last, "{}: read though data are missing", what());
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    errors += 1;
                }
            }
        },
    );
    // Flips inside names and numbers cannot be told from other names and numbers; all structure can.
    assert!(errors > 10_000 && read > 1_000, "{errors} errors, {read} read");
}

#[test]
fn counts_and_lengths_of_all_sizes() {
    let good = model(DType::F32);
    // Tensor count, metadata count, first key's length: offsets 8, 16, 24.
    for at in [8, 16, 24] {
        for value in [0, 1, 1 << 16, 1 << 31, 1 << 32, 1 << 62, u64::MAX - 7, u64::MAX] {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
            let (result, peak) = peak_bytes(|| read_all(&bytes).map(drop));
            assert_eq!(peak, 0);
            // Fewer tensors or entries than there are is a shorter file, not a broken one, when the rest still fits.
            assert!(result.is_err() || value <= 1, "{value} at {at}");
        }
    }
}

#[test]
fn lookups_name_what_is_missing() {
    let bytes = model(DType::I8);
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!(gguf.tensor("nothing").unwrap_err().to_string(), "tensor \"nothing\" is missing");
    assert_eq!(gguf.u32("nothing").unwrap_err().to_string(), "metadata key \"nothing\" is missing");
    assert!(gguf.u32(keys::NAME).unwrap_err().to_string().contains("is not a u32"));
    assert_eq!(gguf.strings(keys::CLASS_NAMES).unwrap().collect::<Vec<_>>(), ["one", "zwei", "три"]);
}
