//! Tiny checkpoints in every upstream layout, written byte by byte without Python, and small enough that a test can
//! flip every bit.

use half::{bf16, f16};

/// A tensor to be put into a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Upstream's name, without a prefix.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Element type of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Float {
    F32,
    F16,
    BF16,
    F64,
}

impl Float {
    /// Every type.
    pub const ALL: [Float; 4] = [Float::F32, Float::F16, Float::BF16, Float::F64];

    fn encode(self, values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|&v| match self {
                Float::F32 => v.to_le_bytes().to_vec(),
                Float::F16 => f16::from_f32(v).to_le_bytes().to_vec(),
                Float::BF16 => bf16::from_f32(v).to_le_bytes().to_vec(),
                Float::F64 => f64::from(v).to_le_bytes().to_vec(),
            })
            .collect()
    }

    fn storage(self) -> &'static str {
        match self {
            Float::F32 => "FloatStorage",
            Float::F16 => "HalfStorage",
            Float::BF16 => "BFloat16Storage",
            Float::F64 => "DoubleStorage",
        }
    }

    fn safetensors(self) -> &'static str {
        match self {
            Float::F32 => "F32",
            Float::F16 => "F16",
            Float::BF16 => "BF16",
            Float::F64 => "F64",
        }
    }
}

/// Values k/16 with |k| < 16: exact in every type of [`Float`], and different from seed to seed.
fn values(len: u64, seed: &mut u64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((*seed >> 59) as i32 - 16).max(-15) as f32 / 16.0
        })
        .collect()
}

fn fill(shapes: Vec<(String, Vec<u64>)>, mut seed: u64) -> Vec<Tensor> {
    let tensor = |(name, shape): (String, Vec<u64>)| {
        let values = values(shape.iter().product(), &mut seed);
        Tensor { name, shape, values }
    };
    shapes.into_iter().map(tensor).collect()
}

/// What [`TINY_CONFIG`] says of the network of [`tiny_jit`]: JSON for `--config`.
pub const TINY_CONFIG: &str = r#"{"input_size": 4, "patch_size": 2, "hidden_size": 8, "depth": 2, "num_heads": 2,
    "num_classes": 3, "in_context_len": 2, "in_context_start": 1}"#;

/// The same for [`smallest_jit`].
pub const SMALLEST_CONFIG: &str = r#"{"depth": 1, "in_context_start": 0}"#;

/// A class-conditional network with two blocks of width 8 and a bottleneck (or one patch projection).
pub fn tiny_jit(bottleneck: bool, seed: u64) -> Vec<Tensor> {
    jit(2, bottleneck, seed)
}

/// [`tiny_jit`] with one block: its header is small enough to be damaged in every way within seconds.
pub fn smallest_jit(bottleneck: bool, seed: u64) -> Vec<Tensor> {
    jit(1, bottleneck, seed)
}

fn jit(blocks: u32, bottleneck: bool, seed: u64) -> Vec<Tensor> {
    let (h, ffn) = (8, 5);
    let mut t: Vec<(String, Vec<u64>)> = Vec::new();
    let mut add = |name: &str, shape: &[u64]| t.push((name.to_owned(), shape.to_vec()));
    add("pos_embed", &[1, 4, h]);
    add("in_context_posemb", &[1, 2, h]);
    add("t_embedder.mlp.0.weight", &[h, 256]);
    add("t_embedder.mlp.0.bias", &[h]);
    add("t_embedder.mlp.2.weight", &[h, h]);
    add("t_embedder.mlp.2.bias", &[h]);
    add("y_embedder.embedding_table.weight", &[4, h]);
    if bottleneck {
        add("x_embedder.proj1.weight", &[3, 1, 2, 2]);
        add("x_embedder.proj2.weight", &[h, 3, 1, 1]);
        add("x_embedder.proj2.bias", &[h]);
    } else {
        add("x_embedder.proj1.weight", &[h, 1, 2, 2]);
        add("x_embedder.proj1.bias", &[h]);
    }
    for i in 0..blocks {
        let mut add = |name: &str, shape: &[u64]| add(&format!("blocks.{i}.{name}"), shape);
        add("norm1.weight", &[h]);
        add("attn.q_norm.weight", &[4]);
        add("attn.k_norm.weight", &[4]);
        add("attn.qkv.weight", &[3 * h, h]);
        add("attn.qkv.bias", &[3 * h]);
        add("attn.proj.weight", &[h, h]);
        add("attn.proj.bias", &[h]);
        add("norm2.weight", &[h]);
        add("mlp.w12.weight", &[2 * ffn, h]);
        add("mlp.w12.bias", &[2 * ffn]);
        add("mlp.w3.weight", &[h, ffn]);
        add("mlp.w3.bias", &[h]);
        add("adaLN_modulation.1.weight", &[6 * h, h]);
        add("adaLN_modulation.1.bias", &[6 * h]);
    }
    add("final_layer.norm_final.weight", &[h]);
    add("final_layer.linear.weight", &[4, h]);
    add("final_layer.linear.bias", &[4]);
    add("final_layer.adaLN_modulation.1.weight", &[2 * h, h]);
    add("final_layer.adaLN_modulation.1.bias", &[2 * h]);
    fill(t, seed)
}

/// A text-to-image network with one image block and one text block of width 8.
pub fn tiny_t2i(seed: u64) -> Vec<Tensor> {
    let h = 8;
    let mut t: Vec<(String, Vec<u64>)> = Vec::new();
    let mut add = |name: &str, shape: &[u64]| t.push((name.to_owned(), shape.to_vec()));
    add("pos_embed", &[1, 4, h]);
    add("y_pos_embedding", &[1, 3, h]);
    add("x_embedder.proj1.weight", &[5, 12]);
    add("x_embedder.proj2.weight", &[h, 5]);
    add("x_embedder.proj2.bias", &[h]);
    add("t_embedder.mlp.0.weight", &[h, 256]);
    add("t_embedder.mlp.0.bias", &[h]);
    add("t_embedder.mlp.2.weight", &[h, h]);
    add("t_embedder.mlp.2.bias", &[h]);
    add("y_embedder.proj.weight", &[h, 6]);
    add("y_embedder.proj.bias", &[h]);
    add("y_embedder.norm.weight", &[h]);
    for block in ["blocks.0", "text_refine_blocks.0"] {
        let mut add = |name: &str, shape: &[u64]| add(&format!("{block}.{name}"), shape);
        if block == "blocks.0" {
            add("attn.qkv_x.weight", &[3 * h, h]);
            add("attn.kv_y.weight", &[2 * h, h]);
        } else {
            add("attn.qkv.weight", &[3 * h, h]);
        }
        add("norm1.weight", &[h]);
        add("attn.q_norm.weight", &[4]);
        add("attn.k_norm.weight", &[4]);
        add("attn.proj.weight", &[h, h]);
        add("attn.proj.bias", &[h]);
        add("norm2.weight", &[h]);
        add("mlp.w12.weight", &[4 * h, h]);
        add("mlp.w3.weight", &[h, 2 * h]);
        add("adaLN_modulation.0.weight", &[6 * h, h]);
        add("adaLN_modulation.0.bias", &[6 * h]);
    }
    add("final_layer.linear.weight", &[12, h]);
    add("final_layer.linear.bias", &[12]);
    fill(t, seed)
}

/// The same tensors under a prefix.
pub fn prefixed(prefix: &str, tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|t| Tensor { name: format!("{prefix}{}", t.name), ..t.clone() }).collect()
}

/// A safetensors file.
pub fn safetensors(tensors: &[Tensor], ty: Float) -> Vec<u8> {
    let (mut items, mut data) = (vec![r#""__metadata__":{"format":"pt"}"#.to_owned()], Vec::new());
    for t in tensors {
        let start = data.len();
        data.extend(ty.encode(&t.values));
        items.push(format!(
            r#""{}":{{"dtype":"{}","shape":{:?},"data_offsets":[{start},{}]}}"#,
            t.name,
            ty.safetensors(),
            t.shape,
            data.len()
        ));
    }
    let header = format!("{{{}}}", items.join(","));
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &data].concat()
}

/// Writes the pickles that `torch.save` writes, memo included.
#[derive(Default)]
pub struct Pickle {
    /// The instructions so far.
    pub bytes: Vec<u8>,
    classes: Vec<String>,
    /// Data of the storages, by key.
    pub storages: Vec<Vec<u8>>,
}

impl Pickle {
    /// An empty protocol 2 pickle.
    pub fn new() -> Self {
        Pickle { bytes: vec![0x80, 2], ..Pickle::default() }
    }

    /// Appends raw instructions.
    pub fn op(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// BINUNICODE.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// BININT.
    pub fn int(&mut self, value: u64) -> &mut Self {
        self.op(b"J").op(&(value as i32).to_le_bytes())
    }

    /// GLOBAL the first time, BINGET after that.
    pub fn class(&mut self, path: &str) -> &mut Self {
        match self.classes.iter().position(|known| known == path) {
            Some(index) => self.op(&[b'h', index as u8]),
            None => {
                self.classes.push(path.to_owned());
                let index = (self.classes.len() - 1) as u8;
                self.op(format!("c{}\n", path.replace(' ', "\n")).as_bytes()).op(&[b'q', index])
            }
        }
    }

    /// A tuple of numbers.
    pub fn sizes(&mut self, sizes: &[u64]) -> &mut Self {
        self.op(b"(");
        sizes.iter().for_each(|&size| {
            self.int(size);
        });
        self.op(b"t")
    }

    /// `_rebuild_tensor_v2` of a storage of its own.
    pub fn tensor(&mut self, t: &Tensor, ty: Float) -> &mut Self {
        let strides = contiguous(&t.shape);
        self.strided(t, ty, 0, &strides)
    }

    /// A tensor at an offset, with these strides, in a storage that holds `t`'s values.
    pub fn strided(&mut self, t: &Tensor, ty: Float, offset: u64, strides: &[u64]) -> &mut Self {
        let key = self.storages.len();
        self.storages.push(ty.encode(&t.values));
        self.class("torch._utils _rebuild_tensor_v2").op(b"((").text("storage");
        self.class(&format!("torch {}", ty.storage())).text(&key.to_string()).text("cpu");
        self.int(t.values.len() as u64).op(b"tQ").int(offset).sizes(&t.shape).sizes(strides).op(b"\x89");
        self.class("collections OrderedDict").op(b")RtR")
    }

    /// An OrderedDict of named tensors, with the `_metadata` attribute of a state dict.
    pub fn state_dict(&mut self, tensors: &[Tensor], ty: Float) -> &mut Self {
        self.class("collections OrderedDict").op(b")R(");
        for t in tensors {
            self.text(&t.name).tensor(t, ty);
        }
        self.op(b"u}").text("_metadata").class("collections OrderedDict").op(b")Rsb")
    }

    /// Ends the pickle and puts it and its storages into a zip file with zip64 records, as torch 2 writes them.
    pub fn zip(&mut self) -> Vec<u8> {
        zip64(&self.entries())
    }

    /// Ends the pickle; it and its storages as entries of a zip file.
    pub fn entries(&mut self) -> Vec<(String, Vec<u8>)> {
        self.op(b".");
        let mut entries = vec![("tiny/data.pkl".to_owned(), self.bytes.clone())];
        entries.push(("tiny/byteorder".into(), b"little".to_vec()));
        entries.extend(self.storages.iter().enumerate().map(|(i, data)| (format!("tiny/data/{i}"), data.clone())));
        entries.push(("tiny/version".into(), b"3\n".to_vec()));
        entries
    }
}

/// Strides of rows stored one after another.
pub fn contiguous(shape: &[u64]) -> Vec<u64> {
    (0..shape.len()).map(|i| shape.iter().skip(i + 1).product()).collect()
}

/// A Lightning checkpoint: both sets of weights, a tensor of the trainer, and what training leaves behind.
pub fn lightning(ema: &[Tensor], raw: &[Tensor], ty: Float) -> Vec<u8> {
    let mut tensors = prefixed("denoiser.", raw);
    tensors.extend(prefixed("ema_denoiser.", ema));
    tensors.push(Tensor { name: "diffusion_trainer.proj.weight".into(), shape: vec![1], values: vec![1.0] });
    let mut p = Pickle::new();
    p.op(b"}(").text("epoch").op(b"K\x03").text("pytorch-lightning_version").text("2.4.0");
    p.text("state_dict").state_dict(&tensors, ty);
    p.text("optimizer_states").op(b"](}(").text("lr").op(b"G").op(&1e-4f64.to_be_bytes()).op(b"ue");
    p.text("callbacks").op(b"}u").zip()
}

/// A JiT checkpoint: groups of `net.*`, and the arguments of the training script.
pub fn jit_pth(groups: &[(&str, &[Tensor])], noise_scale: f64, ty: Float) -> Vec<u8> {
    let mut p = Pickle::new();
    p.op(b"}(");
    for (group, tensors) in groups {
        p.text(group).state_dict(&prefixed("net.", tensors), ty);
    }
    p.text("epoch").op(b"M\x57\x02").text("args").class("argparse Namespace").op(b")\x81}(");
    p.text("noise_scale").op(b"G").op(&noise_scale.to_be_bytes()).op(b"ubu");
    // Older versions of torch write no zip64 records.
    zip(&p.entries())
}

/// [`zip`] with a zip64 end record and its locator in front of the end record.
pub fn zip64(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    const END_LEN: usize = 22;
    let mut out = zip(entries);
    let end = out.split_off(out.len() - END_LEN);
    let directory = u32::from_le_bytes([end[16], end[17], end[18], end[19]]);
    let (at, count, len) = (out.len() as u64, entries.len() as u64, (out.len() as u64) - u64::from(directory));
    out.extend([b"PK\x06\x06".as_slice(), &44u64.to_le_bytes(), &[0x1e, 3, 45, 0], &[0; 8]].concat());
    out.extend([count, count, len, directory.into()].map(u64::to_le_bytes).concat());
    out.extend([b"PK\x06\x07\0\0\0\0".as_slice(), &at.to_le_bytes(), &1u32.to_le_bytes()].concat());
    out.extend(end);
    out
}

/// A zip file of stored entries with data descriptors, as torch writes them.
pub fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (start, crc, len) = (out.len() as u32, crc32(data), data.len() as u32);
        out.extend(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        out.extend((name.len() as u16).to_le_bytes());
        // An extra field that only pads, as torch aligns its storages.
        out.extend(6u16.to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(b"FB\x02\0ZZ");
        out.extend(data);
        out.extend([b"PK\x07\x08".as_slice(), &crc.to_le_bytes(), &len.to_le_bytes(), &len.to_le_bytes()].concat());

        directory.extend(b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0");
        directory.extend([crc.to_le_bytes(), len.to_le_bytes(), len.to_le_bytes()].concat());
        directory.extend((name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (out.len() as u32, entries.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// The checksum of zip, bit by bit.
pub fn crc32(data: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    };
    !data.iter().fold(!0, byte)
}
