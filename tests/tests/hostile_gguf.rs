//! A damaged model file gives a typed error or is read to its end; never a panic, never an allocation.

use std::io::Cursor;
use std::time::{Duration, Instant};

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

/// Magic, version, counts.
fn start(tensors: u64, keys: u64) -> Vec<u8> {
    [b"GGUF\x03\0\0\0".as_slice(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A key whose value is so many empty strings.
fn empty_strings(count: u64) -> Vec<u8> {
    [string("k"), [9u32, 8].map(u32::to_le_bytes).concat(), count.to_le_bytes().to_vec(), vec![0; 8 * count as usize]]
        .concat()
}

/// As many keys or tensors as a file may have, whose names once took time that grew with the square of their number.
#[test]
fn long_headers_are_read_in_time_that_grows_with_them() {
    let key = |i: u32| [string(&format!("k{i}")), 8u32.to_le_bytes().to_vec(), string(&"x".repeat(32 << 10))].concat();
    let tensor = |i: u64| {
        let fields = [&1u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 4], &(32 * i).to_le_bytes()].concat();
        [string(&format!("t{i}")), fields].concat()
    };
    let keys: Vec<u8> = (0..1024).flat_map(key).collect();
    let tensors: Vec<u8> = (0..16_384).flat_map(tensor).collect();
    for (what, header, data) in [
        ("a million strings", [start(0, 1), empty_strings(1 << 20)].concat(), 32),
        ("1024 keys of 32 MB", [start(0, 1024), keys].concat(), 32),
        ("16384 tensors", [start(16_384, 0), tensors].concat(), 32 * 16_384 + 32),
    ] {
        let bytes = [header, vec![0; data]].concat();
        let start = Instant::now();
        let (gguf, peak) = peak_bytes(|| Gguf::parse(&bytes).unwrap());
        // A few of the lookups that opening a model takes.
        let found = (0..4).filter(|i| gguf.u32("nothing").is_ok() || gguf.tensor(&format!("none{i}")).is_ok()).count();
        assert_eq!((found, peak), (0, 0), "{what}");
        // A second is what is wanted; other tests run beside this one.
        assert!(start.elapsed() < Duration::from_secs(15), "{what}: {:?}", start.elapsed());
    }
}

#[test]
fn more_strings_than_any_vocabulary_has_are_refused() {
    let refused = |keys: &[Vec<u8>]| {
        let bytes = [start(0, keys.len() as u64), keys.concat(), vec![0; 32]].concat();
        let start = Instant::now();
        let error = Gguf::parse(&bytes).map(drop).unwrap_err();
        assert!(matches!(error, GgufError::TooMany { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    };
    refused(&[empty_strings(4 << 20)]);
    // A little less than the limit in each of two keys.
    let half = empty_strings(600_000);
    let mut other = half.clone();
    other[8] = b'l';
    refused(&[half, other]);
}
