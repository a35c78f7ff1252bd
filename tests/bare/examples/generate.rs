//! Writes three models, `tiny.gguf`, `int8.gguf` and `f32.gguf`, and their golden images, or with `--check` says
//! whether the files are what this would write. To be run as `cargo xtask generate`.
//!
//! Weights are drawn from the normal distribution, one seed per tensor, scaled so that every layer changes the image.
//! A golden image is what the host's scalar kernels draw; that they are right is for the goldens of `fixtures/`,
//! here they have to be the same everywhere.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use denoir_bare::{ARENA_BYTES, VALUES, draw};
use denoir_core::cpu::Isa;
use denoir_core::gguf::{GgmlType, keys};
use denoir_core::noise::philox_randn;
use denoir_core::{Aligned, DType, Error, Room};
use half::{bf16, f16};

const HIDDEN: usize = 16;
const FFN: usize = 42; // int(int(4 · 16) · 2 / 3), no multiple of 4 as in the published sizes
const HEAD_DIM: usize = 8;
const PATCH: usize = 4;
const GRID: usize = 4;
const BOTTLENECK: usize = 6;
const CLASSES: usize = 2;
const CONTEXT: usize = 2;
const ALIGNMENT: usize = 64;

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let mut ok = true;
    for (stem, types) in [("tiny", ALL), ("int8", INT8), ("f32", F32)] {
        let model = File::tiny(types).bytes();
        match golden(&model) {
            Ok(golden) => {
                ok &= put(&format!("{stem}.gguf"), &model, check) & put(&format!("{stem}.golden"), &golden, check)
            }
            Err(e) => {
                eprintln!("generate: {stem}: {e}");
                ok = false;
            }
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a file, or checks it; whether that went well.
fn put(name: &str, bytes: &[u8], check: bool) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if check && fs::read(&path).ok().as_deref() != Some(bytes) {
        eprintln!("generate: tests/bare/{name} is not what its generator makes; run `cargo xtask generate`");
        return false;
    }
    if !check && let Err(e) = fs::write(&path, bytes) {
        eprintln!("generate: tests/bare/{name}: {e}");
        return false;
    }
    true
}

/// The types of a model's matrices.
#[derive(Clone, Copy)]
struct Types {
    /// Attention and FFN of the first block, those of the second.
    blocks: [[DType; 2]; 2],
    /// The others, by turns.
    others: [DType; 3],
}

/// Every type somewhere.
const ALL: Types =
    Types { blocks: [[DType::I8; 2], [DType::F16, DType::BF16]], others: [DType::BF16, DType::F32, DType::F16] };
/// As the converter writes int8.
const INT8: Types = Types { blocks: [[DType::I8; 2]; 2], others: [DType::F16; 3] };
const F32: Types = Types { blocks: [[DType::F32; 2]; 2], others: [DType::F32; 3] };

fn golden(model: &[u8]) -> Result<Vec<u8>, Error> {
    let mut memory = Box::new(Aligned([[0u8; ARENA_BYTES]; 2]));
    let [file, arena] = &mut memory.0;
    let file = &mut file[..model.len()];
    file.copy_from_slice(model);
    let mut image = [0.0; VALUES];
    draw(file, &mut Room::new(arena), Isa::SCALAR, &mut image)?;
    Ok(image.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A GGUF file in parts.
#[derive(Default)]
struct File {
    entries: u64,
    metadata: Vec<u8>,
    tensors: u64,
    infos: Vec<u8>,
    data: Vec<u8>,
}

impl File {
    fn tiny(types: Types) -> File {
        let [first, second, third] = types.others;
        let mut f = File::default();
        f.string(keys::ARCHITECTURE, keys::ARCH_JIT);
        f.u32(keys::ALIGNMENT, ALIGNMENT);
        f.u32(keys::jit::INPUT_SIZE, GRID * PATCH);
        f.u32(keys::jit::PATCH_SIZE, PATCH);
        f.u32(keys::jit::IN_CHANNELS, 3);
        f.u32(keys::jit::EMBEDDING_LENGTH, HIDDEN);
        f.u32(keys::jit::BLOCK_COUNT, types.blocks.len());
        f.u32(keys::jit::HEAD_COUNT, HIDDEN / HEAD_DIM);
        f.u32(keys::jit::FEED_FORWARD_LENGTH, FFN);
        f.u32(keys::jit::CLASS_COUNT, CLASSES);
        f.u32(keys::jit::BOTTLENECK_LENGTH, BOTTLENECK);
        f.u32(keys::jit::CONTEXT_TOKEN_COUNT, CONTEXT);
        f.u32(keys::jit::CONTEXT_START_BLOCK, 1);
        f.string(keys::SAMPLER_METHOD, "heun-jit");
        f.u32(keys::SAMPLER_STEPS, 4);
        f.f32(keys::SAMPLER_CFG_SCALE, 2.0);
        f.f32(keys::SAMPLER_GUIDANCE_LO, 0.1);
        f.f32(keys::SAMPLER_GUIDANCE_HI, 0.9);

        f.affine("t_embedder.mlp.0", HIDDEN, 256, first);
        f.affine("t_embedder.mlp.2", HIDDEN, HIDDEN, second);
        f.matrix("y_embedder.embedding_table.weight", CLASSES + 1, HIDDEN, first, 0.5);
        f.matrix("x_embedder.proj1.weight", BOTTLENECK, 3 * PATCH * PATCH, third, 0.2);
        f.affine("x_embedder.proj2", HIDDEN, BOTTLENECK, first);
        f.matrix("pos_embed", GRID * GRID, HIDDEN, DType::F32, 0.5);
        f.matrix("in_context_posemb", CONTEXT, HIDDEN, DType::F32, 0.5);
        for (i, [attention, ffn]) in types.blocks.into_iter().enumerate() {
            f.norm(&format!("blocks.{i}.norm1.weight"), HIDDEN);
            f.affine(&format!("blocks.{i}.attn.qkv"), 3 * HIDDEN, HIDDEN, attention);
            f.norm(&format!("blocks.{i}.attn.q_norm.weight"), HEAD_DIM);
            f.norm(&format!("blocks.{i}.attn.k_norm.weight"), HEAD_DIM);
            f.affine(&format!("blocks.{i}.attn.proj"), HIDDEN, HIDDEN, attention);
            f.norm(&format!("blocks.{i}.norm2.weight"), HIDDEN);
            f.affine(&format!("blocks.{i}.mlp.w12"), 2 * FFN, HIDDEN, ffn);
            f.affine(&format!("blocks.{i}.mlp.w3"), HIDDEN, FFN, ffn);
            f.affine(&format!("blocks.{i}.adaLN_modulation.1"), 6 * HIDDEN, HIDDEN, third);
        }
        f.norm("final_layer.norm_final.weight", HIDDEN);
        f.affine("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN, first);
        f.affine("final_layer.linear", 3 * PATCH * PATCH, HIDDEN, second);
        f
    }

    fn key(&mut self, key: &str, value_type: u32) {
        text(&mut self.metadata, key);
        self.metadata.extend(value_type.to_le_bytes());
        self.entries += 1;
    }

    fn u32(&mut self, key: &str, value: usize) {
        self.key(key, 4);
        self.metadata.extend((value as u32).to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.metadata.extend(value.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        text(&mut self.metadata, value);
    }

    /// Standard normal values; the tensor's number is their seed.
    fn normal(&self, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        philox_randn(self.tensors, &mut values);
        values
    }

    /// A matrix whose products with unit inputs have about unit size, and a bias.
    fn affine(&mut self, name: &str, rows: usize, cols: usize, dtype: DType) {
        self.matrix(&format!("{name}.weight"), rows, cols, dtype, 1.0 / (cols as f32).sqrt());
        self.matrix(&format!("{name}.bias"), 1, rows, DType::F32, 0.1);
    }

    fn norm(&mut self, name: &str, len: usize) {
        let values: Vec<f32> = self.normal(len).iter().map(|x| 1.0 + 0.1 * x).collect();
        self.tensor(name, &[len], DType::F32, &floats(&values));
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize, dtype: DType, scale: f32) {
        let values: Vec<f32> = self.normal(rows * cols).iter().map(|x| scale * x).collect();
        let shape = [rows, cols];
        match dtype {
            DType::F16 => {
                let bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32_const(x).to_le_bytes()).collect();
                self.tensor(name, &shape, dtype, &bytes);
            }
            DType::BF16 => {
                let bytes: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32_const(x).to_le_bytes()).collect();
                self.tensor(name, &shape, dtype, &bytes);
            }
            DType::I8 => {
                let scale = |row: &[f32]| row.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
                let rows = values.chunks(cols);
                let scales: Vec<f32> = rows.clone().map(scale).collect();
                let round = |row: &[f32]| row.iter().map(|x| (x / scale(row)).round() as i8 as u8).collect::<Vec<u8>>();
                let bytes: Vec<u8> = rows.flat_map(round).collect();
                self.tensor(name, &shape, dtype, &bytes);
                self.tensor(&format!("{name}{}", keys::SCALE_SUFFIX), &shape[..1], DType::F32, &floats(&scales));
            }
            _ => self.tensor(name, &shape, DType::F32, &floats(&values)),
        }
    }

    fn tensor(&mut self, name: &str, shape: &[usize], dtype: DType, bytes: &[u8]) {
        text(&mut self.infos, name);
        self.infos.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&dim| self.infos.extend((dim as u64).to_le_bytes()));
        self.infos.extend(GgmlType::from(dtype).code().to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.tensors += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.entries.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.infos);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&self.data);
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
