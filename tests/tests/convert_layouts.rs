//! Every upstream layout gives the same model file; what does not fit gives one clear line.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use denoir_convert::{Config, ConvertError, Options, convert, convert_bytes};
use denoir_core::DType;
use denoir_core::QuantResidual;
use denoir_core::gguf::{GgmlType, Gguf, keys};
use denoir_core::ops::rotate;
use denoir_tests::convert_checkpoint::{
    Float, Pickle, TINY_CONFIG, Tensor, jit_pth, lightning, prefixed, safetensors, tiny_jit, tiny_t2i,
};
use half::{bf16, f16};

fn config(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap()
}

fn tiny_config() -> Config {
    config(TINY_CONFIG)
}

fn try_convert(bytes: &[u8], weights: Option<&str>, dtype: DType, config: &Config) -> Result<Vec<u8>, ConvertError> {
    let mut out = Cursor::new(Vec::new());
    convert_bytes(bytes, "some.ckpt", &mut out, weights, dtype, config, None)?;
    Ok(out.into_inner())
}

fn message(bytes: &[u8], config: &Config) -> String {
    try_convert(bytes, None, DType::BF16, config).unwrap_err().to_string()
}

/// The values of every tensor, whatever its type; I8 with its scales applied, scales left out.
fn values(file: &[u8]) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let gguf = Gguf::parse(file).unwrap();
    let read = |data: &[u8], ty| -> Vec<f32> {
        match ty {
            GgmlType::F32 => data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            GgmlType::F16 => data.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
            GgmlType::BF16 => data.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
            GgmlType::I8 => data.iter().map(|b| f32::from(*b as i8)).collect(),
            other => panic!("{other}"),
        }
    };
    let mut out = BTreeMap::new();
    for tensor in gguf.tensors().filter(|t| !keys::is_of_matrix(t.name)) {
        let mut values = read(tensor.data, tensor.ggml_type);
        if tensor.ggml_type == GgmlType::I8 {
            let scales = gguf.tensor(&format!("{}_scale", tensor.name)).unwrap();
            assert_eq!((scales.ggml_type, scales.dims.as_slice()), (GgmlType::F32, &tensor.dims[..1]));
            for (row, scale) in values.chunks_mut(tensor.dims[1]).zip(read(scales.data, GgmlType::F32)) {
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
        let shape = tensor.dims.iter().map(|&d| d as u64).collect();
        out.insert(tensor.name.to_owned(), (shape, values));
    }
    out
}

fn expected(tensors: &[Tensor]) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    tensors.iter().map(|t| (t.name.clone(), (t.shape.clone(), t.values.clone()))).collect()
}

#[test]
fn every_layout_and_source_type_holds_the_same_network() {
    let (want, other) = (tiny_jit(true, 1), tiny_jit(true, 2));
    for ty in Float::ALL {
        let files = [
            ("lightning", lightning(&want, &other, ty), None),
            ("lightning, compiled", lightning(&prefixed("_orig_mod.", &want), &other, ty), None),
            ("lightning, raw", lightning(&other, &want, ty), Some("raw")),
            ("jit", jit_pth(&[("model", &other), ("model_ema1", &want), ("model_ema2", &other)], 1.0, ty), None),
            (
                "jit, second average",
                jit_pth(&[("model_ema1", &other), ("model_ema2", &want)], 1.0, ty),
                Some("model_ema2"),
            ),
            ("jit, plain", jit_pth(&[("model", &want), ("model_ema1", &other)], 1.0, ty), Some("raw")),
            ("bare state dict", Pickle::new().state_dict(&want, ty).zip(), None),
            ("safetensors", safetensors(&want, ty), None),
            ("safetensors, net.", safetensors(&prefixed("net.", &want), ty), None),
            ("safetensors, ema", safetensors(&prefixed("ema_denoiser._orig_mod.", &want), ty), Some("ema")),
            ("safetensors, groups", safetensors(&prefixed("model_ema1.net.", &want), ty), None),
        ];
        for (layout, bytes, weights) in files {
            let file = try_convert(&bytes, weights, DType::F32, &tiny_config()).unwrap();
            assert_eq!(values(&file), expected(&want), "{layout} {ty:?}");
        }
    }
}

#[test]
fn sizes_and_settings_come_from_the_checkpoint() {
    let file = try_convert(&lightning(&tiny_jit(true, 1), &[], Float::F32), None, DType::BF16, &tiny_config()).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let sizes = [
        (keys::jit::INPUT_SIZE, 4),
        (keys::jit::PATCH_SIZE, 2),
        (keys::jit::IN_CHANNELS, 1),
        (keys::jit::EMBEDDING_LENGTH, 8),
        (keys::jit::BLOCK_COUNT, 2),
        (keys::jit::HEAD_COUNT, 2),
        (keys::jit::FEED_FORWARD_LENGTH, 5),
        (keys::jit::CLASS_COUNT, 3),
        (keys::jit::BOTTLENECK_LENGTH, 3),
        (keys::jit::CONTEXT_TOKEN_COUNT, 2),
        (keys::jit::CONTEXT_START_BLOCK, 1),
        (keys::ALIGNMENT, 64),
        (keys::FILE_TYPE, 32),
    ];
    for (key, size) in sizes {
        assert_eq!(gguf.u32(key), Ok(size), "{key}");
    }
    assert_eq!(gguf.string(keys::ARCHITECTURE), Ok(keys::ARCH_JIT));
    assert_eq!((gguf.string(keys::SAMPLER_METHOD), gguf.string(keys::ROUNDING)), (Ok("euler"), Ok("pixelgen")));
    assert_eq!((gguf.string(keys::SOURCE_FILE), gguf.string(keys::WEIGHT_TYPE)), (Ok("some.ckpt"), Ok("bf16")));
    assert_eq!(gguf.string(keys::SOURCE_SHA256).unwrap().len(), 64);

    // One patch projection: PixelGen-XL's settings.
    let xl = lightning(&tiny_jit(false, 1), &[], Float::F32);
    let file = try_convert(&xl, None, DType::BF16, &tiny_config()).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.u32(keys::jit::BOTTLENECK_LENGTH), gguf.string(keys::SAMPLER_METHOD)), (Ok(0), Ok("heun")));
    assert_eq!((gguf.f32(keys::SAMPLER_CFG_SCALE), gguf.f32(keys::SAMPLER_FLOW_SHIFT)), (Ok(2.25), Ok(2.0)));

    // JiT's own, with the noise scale of its arguments.
    let jit = jit_pth(&[("model_ema1", &tiny_jit(true, 1))], 2.0, Float::F32);
    let file = try_convert(&jit, None, DType::BF16, &tiny_config()).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.string(keys::SAMPLER_METHOD), gguf.string(keys::ROUNDING)), (Ok("heun-jit"), Ok("jit")));
    assert_eq!(gguf.f32(keys::SAMPLER_NOISE_SCALE), Ok(2.0));

    // The configuration wins.
    let said = config(
        r#"{"in_context_start": 0, "name": "mine", "family": "pixelgen", "rounding": "jit",
            "sampler": {"method": "adams", "steps": 7, "guidance_interval": [0.25, 0.5], "order": 3, "noise_scale": 4}}"#,
    );
    let file = try_convert(&jit, None, DType::BF16, &said).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.string(keys::NAME), gguf.string(keys::SAMPLER_METHOD)), (Ok("mine"), Ok("adams")));
    assert_eq!((gguf.u32(keys::SAMPLER_STEPS), gguf.u32(keys::SAMPLER_ORDER)), (Ok(7), Ok(3)));
    assert_eq!((gguf.f32(keys::SAMPLER_GUIDANCE_LO), gguf.f32(keys::SAMPLER_GUIDANCE_HI)), (Ok(0.25), Ok(0.5)));
    assert_eq!((gguf.f32(keys::SAMPLER_NOISE_SCALE), gguf.string(keys::ROUNDING)), (Ok(4.0), Ok("jit")));
    assert_eq!((gguf.u32(keys::jit::CONTEXT_START_BLOCK), gguf.f32(keys::SAMPLER_CFG_SCALE)), (Ok(0), Ok(1.0)));
}

#[test]
fn text_to_image() {
    let want = tiny_t2i(9);
    let file = try_convert(&lightning(&want, &want, Float::F32), None, DType::F32, &Config::default()).unwrap();
    assert_eq!(values(&file), expected(&want));
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.string(keys::ARCHITECTURE), Ok(keys::ARCH_T2I));
    for (key, size) in [
        (keys::t2i::INPUT_SIZE, 4),
        (keys::t2i::PATCH_SIZE, 2),
        (keys::t2i::IN_CHANNELS, 3),
        (keys::t2i::BLOCK_COUNT, 1),
        (keys::t2i::TEXT_BLOCK_COUNT, 1),
        (keys::t2i::HEAD_COUNT, 2),
        (keys::t2i::FEED_FORWARD_LENGTH, 16),
        (keys::t2i::BOTTLENECK_LENGTH, 5),
        (keys::t2i::TEXT_LENGTH, 3),
        (keys::t2i::TEXT_EMBEDDING_LENGTH, 6),
    ] {
        assert_eq!(gguf.u32(key), Ok(size), "{key}");
    }
    assert_eq!((gguf.string(keys::SAMPLER_METHOD), gguf.u32(keys::SAMPLER_STEPS)), (Ok("adams"), Ok(25)));
    let one_channel = config(r#"{"in_channels": 12}"#);
    let file = try_convert(&lightning(&want, &want, Float::F32), None, DType::F32, &one_channel).unwrap();
    assert_eq!(Gguf::parse(&file).unwrap().u32(keys::t2i::PATCH_SIZE), Ok(1));
}

#[test]
fn weight_types_keep_what_must_stay_exact() {
    let tiny = tiny_jit(true, 3);
    let bytes = safetensors(&tiny, Float::F32);
    for (dtype, matrix, attention) in [
        (DType::F32, GgmlType::F32, GgmlType::F32),
        (DType::F16, GgmlType::F16, GgmlType::F16),
        (DType::BF16, GgmlType::BF16, GgmlType::BF16),
        (DType::I8, GgmlType::F16, GgmlType::I8),
    ] {
        let file = try_convert(&bytes, None, dtype, &tiny_config()).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.u32(keys::FEED_FORWARD_ROTATION).ok(), (dtype == DType::I8).then_some(16));
        for tensor in gguf.tensors().filter(|t| !keys::is_of_matrix(t.name)) {
            let name = tensor.name;
            let attention_or_ffn = ["attn.qkv.weight", "attn.proj.weight", "mlp.w12.weight", "mlp.w3.weight"]
                .iter()
                .any(|w| name.ends_with(w));
            let want = match tensor.dims.len() {
                1 | 3 => GgmlType::F32,
                _ if attention_or_ffn => attention,
                _ => matrix,
            };
            assert_eq!(tensor.ggml_type, want, "{name} as {dtype}");
            assert!(tensor.offset.is_multiple_of(64), "{name}");
        }
        for (name, (shape, got)) in values(&file) {
            let want = tiny.iter().find(|t| t.name == name).unwrap();
            assert_eq!(shape, want.shape);
            // The values are exact in 16 bits; in 8 they are within half a step of their row, which may be rotated.
            let columns = *shape.last().unwrap() as usize;
            let mut values = want.values.clone();
            if dtype == DType::I8 && name.ends_with("mlp.w3.weight") {
                values.chunks_mut(columns).for_each(rotate);
            }
            for (got, want) in got.chunks(columns).zip(values.chunks(columns)) {
                let step = want.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
                let bound = if dtype == DType::I8 { 0.501 * step } else { 0.0 };
                assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() <= bound), "{name} as {dtype}");
            }
            // What is left over divides the step into four; not where no activations are centred.
            let rest = gguf.tensor(&format!("{name}{}", keys::REST_SUFFIX)).ok();
            let centred = ["qkv.weight", "proj.weight", "w12.weight"].iter().any(|w| name.ends_with(w));
            let in_block = name.starts_with("blocks") && dtype == DType::I8;
            assert_eq!(rest.is_some(), centred && in_block, "{name} as {dtype}");
            let Some(rest) = rest else { continue };
            let rows = got.chunks(columns).zip(values.chunks(columns));
            for ((got, want), rest) in rows.zip(rest.data.chunks(QuantResidual::bytes(columns))) {
                let step = want.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
                for (k, (got, want)) in got.iter().zip(want).enumerate() {
                    let (byte, bit) = QuantResidual::place(k);
                    let finer = got + step * QuantResidual::value(rest[byte] >> bit & 3);
                    assert!((finer - want).abs() <= 0.126 * step, "{name}: {finer} instead of {want}");
                }
            }
        }
    }
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tiny = tiny_jit(true, 4);
    fs::write(at("m-1.safetensors"), safetensors(&tiny[..20], Float::BF16)).unwrap();
    fs::write(at("m-2.safetensors"), safetensors(&tiny[20..], Float::BF16)).unwrap();
    let shard = |i: usize| if i < 20 { "m-1.safetensors" } else { "m-2.safetensors" };
    let map: BTreeMap<_, _> = tiny.iter().enumerate().map(|(i, t)| (t.name.as_str(), shard(i))).collect();
    fs::write(at("m.safetensors.index.json"), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    fs::write(at("c.json"), TINY_CONFIG).unwrap();
    fs::write(at("labels.txt"), "cat\r\ndog\n emu \n\n").unwrap();
    let mut options = Options { dtype: Some(DType::F32), config: Some(at("c.json")), ..Options::default() };
    options.labels = Some(at("labels.txt"));

    let mut last = (0, 1);
    let mut progress = |p: denoir_convert::Progress<'_>| {
        assert!(p.bytes_done >= last.0 && p.bytes_done <= p.bytes_total);
        last = (p.bytes_done, p.bytes_total);
    };
    let summary = convert(&at("m.safetensors.index.json"), &at("m.gguf"), &options, &mut progress).unwrap();
    assert_eq!(last.0, last.1);
    let file = fs::read(at("m.gguf")).unwrap();
    assert_eq!((summary.bytes, summary.tensors), (file.len() as u64, tiny.len()));
    assert_eq!(values(&file), expected(&tiny));
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.strings(keys::CLASS_NAMES).unwrap().collect::<Vec<_>>(), ["cat", "dog", "emu"]);
    assert_eq!(gguf.string(keys::SOURCE_FILE), Ok("m.safetensors.index.json"));
    assert_eq!(gguf.string(keys::SOURCE_SHA256), Ok(summary.source_sha256.as_str()));

    fs::remove_file(at("m-2.safetensors")).unwrap();
    let error = convert(&at("m.safetensors.index.json"), &at("m.gguf"), &options, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("m-2.safetensors"), "{error}");
    assert_eq!(fs::read(at("m.gguf")).unwrap(), file, "the old file is untouched");
}

#[test]
fn what_does_not_fit_is_named() {
    let tiny = tiny_jit(true, 5);
    let with = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut tensors = tiny.clone();
        change(&mut tensors);
        message(&safetensors(&tensors, Float::F32), &tiny_config())
    };
    let shape = |name: &'static str, shape: Vec<u64>| {
        with(&|t| {
            let tensor = t.iter_mut().find(|t| t.name == name).unwrap();
            tensor.values.resize(shape.iter().product::<u64>() as usize, 0.0);
            tensor.shape = shape.clone();
        })
    };
    let set =
        |name: &'static str, value: f32| with(&|t| t.iter_mut().find(|t| t.name == name).unwrap().values[1] = value);
    let extra = |name: &'static str| Tensor { name: name.into(), shape: vec![1], values: vec![0.5] };

    assert_eq!(
        with(&|t| t.retain(|t| t.name != "blocks.1.mlp.w3.bias")),
        "tensor \"blocks.1.mlp.w3.bias\" is missing from the checkpoint"
    );
    assert_eq!(with(&|t| t.push(extra("blocks.1.lora"))), "tensor \"blocks.1.lora\" is not part of this network");
    assert_eq!(
        shape("blocks.1.attn.qkv.weight", vec![24, 9]),
        "tensor \"blocks.1.attn.qkv.weight\" has shape [24, 9], but [24, 8] is needed"
    );
    assert!(shape("pos_embed", vec![1, 5, 8]).contains("a square number of tokens"));
    assert!(shape("blocks.0.attn.q_norm.weight", vec![3]).contains("a divisor of 8"));
    assert!(shape("x_embedder.proj1.weight", vec![3, 1, 2, 3]).contains("a square patch"));
    assert!(shape("pos_embed", vec![4, 8]).contains("3 dimensions"));
    assert_eq!(set("blocks.0.mlp.w3.weight", f32::NAN), "tensor \"blocks.0.mlp.w3.weight\" holds NaN or infinity");
    assert_eq!(set("blocks.0.norm1.weight", f32::INFINITY), "tensor \"blocks.0.norm1.weight\" holds NaN or infinity");
    assert!(message(&safetensors(&[extra("resnet.conv1")], Float::F32), &Config::default()).contains("resnet.conv1"));

    // Rotary tables that some versions save are computed, not read.
    let mut saved = tiny.clone();
    saved.push(extra("feat_rope.freqs_cos"));
    try_convert(&safetensors(&saved, Float::F32), None, DType::F32, &tiny_config()).unwrap();

    let mut large = tiny.clone();
    large.iter_mut().find(|t| t.name == "final_layer.linear.weight").unwrap().values[0] = 65_536.0;
    let large = safetensors(&large, Float::F32);
    let error = try_convert(&large, None, DType::F16, &tiny_config()).unwrap_err().to_string();
    assert!(error.contains("final_layer.linear.weight") && error.contains("--type bf16"), "{error}");
    try_convert(&large, None, DType::BF16, &tiny_config()).unwrap();

    let contradiction = message(&safetensors(&tiny, Float::F32), &config(r#"{"depth": 3, "in_context_start": 1}"#));
    assert_eq!(contradiction, "the configuration says depth = 3, but the checkpoint says 2");
    let contradiction = message(&safetensors(&tiny, Float::F32), &config(r#"{"use_bottleneck": false}"#));
    assert_eq!(contradiction, "the configuration says use_bottleneck = false, but the checkpoint says true");
    let unknown = message(&safetensors(&tiny, Float::F32), &Config::default());
    assert!(unknown.contains("2 blocks") && unknown.contains("--config"), "{unknown}");
    let late = message(&safetensors(&tiny, Float::F32), &config(r#"{"in_context_start": 2}"#));
    assert!(late.contains("in_context_start = 2"), "{late}");

    let mut integers = Pickle::new();
    integers.op(b"}(");
    for t in &tiny {
        integers.text(&t.name).tensor(t, Float::F32);
    }
    let mut bytes = integers.op(b"u").entries();
    let at = bytes[0].1.windows(12).position(|w| w == b"FloatStorage").unwrap();
    bytes[0].1.splice(at..at + 12, *b"IntStorage");
    let error = message(&denoir_tests::convert_checkpoint::zip(&bytes), &tiny_config());
    assert!(error.contains("is int32; weights must be float32"), "{error}");
}

#[test]
fn missing_weights_are_listed() {
    let tiny = tiny_jit(true, 6);
    let reason =
        |bytes: &[u8], weights| try_convert(bytes, weights, DType::F32, &tiny_config()).unwrap_err().to_string();
    let ckpt = lightning(&tiny, &tiny, Float::F32);
    assert_eq!(reason(&ckpt, Some("model_ema1")), "the checkpoint has no weights \"model_ema1\"; it has: ema, raw");
    assert_eq!(reason(&lightning(&[], &tiny, Float::F32), None), "the checkpoint has no weights \"ema\"; it has: raw");
    let pth = jit_pth(&[("model", &tiny), ("model_ema2", &tiny)], 1.0, Float::F32);
    assert_eq!(reason(&pth, None), "the checkpoint has no weights \"model_ema1\"; it has: model_ema2, model");
    let bare = safetensors(&tiny, Float::F32);
    assert_eq!(reason(&bare, Some("ema")), "the checkpoint has no weights \"ema\"; it has: one unnamed set");
    let twice = prefixed("_orig_mod.", &tiny[..1]).into_iter().chain(tiny.clone()).collect::<Vec<_>>();
    assert_eq!(reason(&safetensors(&twice, Float::F32), None), "tensor \"pos_embed\" occurs twice");
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let tiny = tiny_jit(true, 7);
    fs::write(at("in.ckpt"), lightning(&tiny, &tiny, Float::F32)).unwrap();
    fs::write(at("c.json"), TINY_CONFIG).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let good = Options { config: Some(at("c.json")), ..Options::default() };
    let fails = |input: &Path, output: &Path, options: &Options| {
        let before = names();
        let error = convert(input, output, options, &mut |_| {}).unwrap_err().to_string();
        assert_eq!(names(), before, "{error}");
        assert!(!error.contains('\n') && !error.contains(".denoir-"), "{error}");
        error
    };
    let (input, out) = (at("in.ckpt"), at("out.gguf"));
    assert!(fails(&input, &at("folder"), &good).contains("it is a folder"));
    assert!(fails(&input, &input, &good).contains("it is an input file"));
    assert!(fails(&input, &at("none/out.gguf"), &good).contains("cannot write"));
    assert!(fails(&at("folder"), &out, &good).contains("not a file"));
    assert!(fails(&at("none.ckpt"), &out, &good).contains("cannot read"));
    assert!(fails(&input, &out, &Options::default()).contains("in_context_start"));
    assert!(
        fails(&input, &out, &Options { dtype: Some(DType::U32), ..good.clone() }).contains("f32, f16, bf16 or int8")
    );
    assert!(fails(&input, &out, &Options { config: Some(at("none.yaml")), ..good.clone() }).contains("none.yaml"));
    fs::write(at("labels"), "a\nb\n").unwrap();
    let labels = Options { labels: Some(at("labels")), ..good.clone() };
    assert_eq!(fails(&input, &out, &labels), "class names: 2 names for 3 classes");
    // A failure in the middle of the tensor data.
    let mut broken = tiny.clone();
    broken.last_mut().unwrap().values[0] = f32::NAN;
    fs::write(at("nan.ckpt"), lightning(&broken, &tiny, Float::F32)).unwrap();
    assert!(fails(&at("nan.ckpt"), &out, &good).contains("NaN"));

    convert(&input, &out, &good, &mut |_| {}).unwrap();
    let first = fs::read(&out).unwrap();
    assert!(fails(&at("nan.ckpt"), &out, &good).contains("NaN"));
    assert_eq!(fs::read(&out).unwrap(), first, "the old file is untouched");
    convert(&input, &out, &Options { dtype: Some(DType::I8), ..good }, &mut |_| {}).unwrap();
    assert_ne!(fs::read(&out).unwrap(), first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = fs::metadata(&out).unwrap().permissions().mode() & 0o600;
        assert_eq!(readable, 0o600);
    }
}
