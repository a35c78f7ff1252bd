//! The converter's memory does not grow with the checkpoint.

use std::io::{Seek, SeekFrom, Write};

use denoir_convert::{Config, convert_bytes};
use denoir_core::DType;
use denoir_tests::convert_checkpoint::{Float, Tensor, safetensors};
use denoir_tests::hostile_alloc::{CountingAllocator, peak_bytes};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Counts what is written and keeps none of it.
#[derive(Default)]
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
        Ok(0)
    }
}

/// A network of one block; its matrices are of `width` columns.
fn network(width: u64) -> Vec<Tensor> {
    let mut tensors = denoir_tests::convert_checkpoint::smallest_jit(true, 1);
    for tensor in &mut tensors {
        let scale = |dim: u64| if dim.is_multiple_of(8) && dim != 256 { dim / 8 * width } else { dim };
        if !tensor.name.starts_with("x_embedder.proj1") {
            tensor.shape = tensor.shape.iter().map(|&dim| scale(dim)).collect();
        }
        tensor.values = vec![0.25; tensor.shape.iter().product::<u64>() as usize];
    }
    tensors
}

#[test]
fn peak_memory_is_that_of_a_few_blocks() {
    let config = Config::parse(br#"{"in_context_start": 0}"#).unwrap();
    let file = safetensors(&network(1024), Float::F32);
    assert!(file.len() > 45_000_000);
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
        let mut out = Nowhere::default();
        let convert = || convert_bytes(&file, "big", &mut out, None, dtype, &config, None);
        let (summary, peak) = peak_bytes(convert);
        assert_eq!(summary.unwrap().bytes + 64, out.0, "the file, and its hash once more");
        assert!(peak < 2 << 20, "{dtype}: {peak} bytes");
    }
}
