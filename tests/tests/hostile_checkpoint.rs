//! A damaged checkpoint gives a typed error or the right model file; never a panic, a large allocation, or a file
//! that is silently wrong.

use std::io::{Cursor, Seek, SeekFrom, Write};

use denoir_convert::{Config, ConvertError, PickleError, ZipError, convert_bytes};
use denoir_core::DType;
use denoir_tests::convert_checkpoint::{
    Float, Pickle, SMALLEST_CONFIG, TINY_CONFIG, Tensor, jit_pth, lightning, safetensors, smallest_jit, tiny_jit, zip,
};
use denoir_tests::hostile_alloc::{CountingAllocator, every_damage, peak_bytes};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn config() -> Config {
    Config::parse(TINY_CONFIG.as_bytes()).unwrap()
}

/// Which bits of a zip file to flip: all of headers, directory and pickle, and one of each byte of the storages,
/// which are nothing but numbers under a checksum.
fn zip_bits(bytes: &[u8]) -> Vec<u8> {
    let mut bits = vec![0xff; bytes.len()];
    let (start, end) = (b"FB\x02\0ZZ", b"PK\x07\x08");
    let mut at = 0;
    while let Some(header) = bytes[at..].windows(start.len()).position(|w| w == start) {
        let data = at + header + start.len();
        let len = bytes[data..].windows(end.len()).position(|w| w == end).unwrap();
        let pickle = bytes[..data - start.len()].ends_with(b"data.pkl");
        for at in (data..data + len).filter(|_| !pickle) {
            bits[at] = 1 << (at % 8);
        }
        at = data + len;
    }
    bits
}

/// The model file, with the hash of the checkpoint blanked: damage changes it by design.
fn convert(bytes: &[u8], config: &Config) -> Result<Vec<u8>, ConvertError> {
    let mut out = Cursor::new(Vec::new());
    let summary = convert_bytes(bytes, "tiny", &mut out, None, DType::BF16, config, None)?;
    let mut out = out.into_inner();
    let hash = summary.source_sha256.as_bytes();
    let at = out.windows(hash.len()).position(|w| w == hash).expect("the file holds the hash");
    out[at..at + hash.len()].fill(b'0');
    Ok(out)
}

/// Most bytes that reading a file of `len` bytes may take, its output included.
fn budget(len: usize) -> usize {
    24 * len + (64 << 10)
}

fn survives(good: &[u8], bits: impl Fn(usize) -> u8) {
    let config = Config::parse(SMALLEST_CONFIG.as_bytes()).unwrap();
    let want = convert(good, &config).unwrap();
    assert!(good.len() < 20_000, "{} bytes", good.len());
    let mut worst = 0;
    every_damage(good, bits, |bytes, what| {
        let (result, peak) = peak_bytes(|| convert(bytes, &config));
        worst = worst.max(peak);
        match result {
            Ok(got) => assert!(got == want, "{}: accepted, and the result is wrong", what()),
            Err(error) => assert!(!error.to_string().contains('\n'), "{}: {error}", what()),
        }
    });
    assert!(worst <= budget(good.len()), "{worst} bytes allocated for a file of {}", good.len());
}

#[test]
fn every_damage_of_a_lightning_checkpoint() {
    // One set of weights, to keep the file small.
    let good = lightning(&smallest_jit(true, 1), &[], Float::F16);
    let bits = zip_bits(&good);
    survives(&good, |at| bits[at]);
}

#[test]
fn every_damage_of_a_jit_checkpoint() {
    let good = jit_pth(&[("model_ema1", &smallest_jit(false, 2))], 1.0, Float::BF16);
    let bits = zip_bits(&good);
    survives(&good, |at| bits[at]);
}

#[test]
fn every_damage_of_a_safetensors_header() {
    let good = safetensors(&smallest_jit(true, 3), Float::F16);
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    survives(&good, |at| if at < header { 0xff } else { 0 });
}

#[test]
fn every_damage_of_a_configuration() {
    let json = r#"{"depth": 2, "in_context_start": 1, "sampler": {"method": "heun", "guidance_interval": [0.1, 1]}}"#;
    let yaml = "tags: {exp: &exp PixelGen}\nmodel:\n  denoiser:\n    init_args: {depth: &d 2, in_context_len: *d}\n  \
                diffusion_sampler:\n    class_path: a.HeunSamplerJiT\n    init_args: {guidance: 2.25, exact_henu: true}\n";
    for text in [json, yaml] {
        let good = text.as_bytes();
        Config::parse(good).unwrap();
        every_damage(
            good,
            |_| 0xff,
            |bytes, what| {
                let (result, peak) = peak_bytes(|| Config::parse(bytes));
                assert!(peak <= budget(good.len()), "{}: {peak} bytes allocated", what());
                if let Err(error) = result {
                    assert!(!error.to_string().contains('\n'), "{}: {error}", what());
                }
            },
        );
    }
}

#[test]
fn every_damage_of_a_safetensors_index() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_jit(true, 4);
    std::fs::write(folder.path().join("a.safetensors"), safetensors(&tiny[..9], Float::F16)).unwrap();
    std::fs::write(folder.path().join("b.safetensors"), safetensors(&tiny[9..], Float::F16)).unwrap();
    std::fs::write(folder.path().join("c.json"), TINY_CONFIG).unwrap();
    let (index, out) = (folder.path().join("m.safetensors.index.json"), folder.path().join("out.gguf"));
    let options = denoir_convert::Options { config: Some(folder.path().join("c.json")), ..Default::default() };
    let good = br#"{"weight_map":{"p":"a.safetensors","q":"b.safetensors"}}"#;

    std::fs::write(&index, good).unwrap();
    denoir_convert::convert(&index, &out, &options, &mut |_| {}).unwrap();
    let want = std::fs::read(&out).unwrap().len();
    every_damage(
        good,
        |_| 0xff,
        |bytes, what| {
            std::fs::write(&index, bytes).unwrap();
            std::fs::remove_file(&out).ok();
            let (result, peak) = peak_bytes(|| denoir_convert::convert(&index, &out, &options, &mut |_| {}));
            // The output's buffer is of a fixed size; it comes before the input is looked at.
            assert!(peak <= budget(good.len() + 8192) + (256 << 10), "{}: {peak} bytes allocated", what());
            match result {
                Ok(_) => assert_eq!(std::fs::read(&out).unwrap().len(), want, "{}", what()),
                Err(error) => assert!(!error.to_string().contains('\n') && !out.exists(), "{}: {error}", what()),
            }
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, 4 + usize::from(out.exists()), "{}: something is left behind", what());
        },
    );
    for evil in ["../a.safetensors", "/etc/passwd", "..", "", "x/a", "a\\\\b", "C:a"] {
        std::fs::write(&index, format!(r#"{{"weight_map":{{"w":"{evil}"}}}}"#)).unwrap();
        let error = denoir_convert::convert(&index, &out, &options, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("in its own folder"), "{evil:?}: {error}");
    }
}

// ---- pickles ----------------------------------------------------------------------------------------------------

fn pickle_error(pickle: &mut Pickle) -> PickleError {
    let bytes = pickle.zip();
    let (result, peak) = peak_bytes(|| convert(&bytes, &config()));
    assert!(peak <= 64 * bytes.len() + (64 << 10), "{peak} bytes allocated for {}", bytes.len());
    match result.unwrap_err() {
        ConvertError::Pickle { source, .. } => source,
        other => panic!("not a pickle error: {other}"),
    }
}

#[test]
fn classes_and_functions_that_are_not_data_are_named_and_not_run() {
    let marker = std::env::temp_dir().join(format!("denoir-pickle-{}", std::process::id()));
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("subprocess", "Popen"),
        ("collections", "OrderedDict.__class__"),
    ] {
        let mut p = Pickle::new();
        p.class(&format!("{module} {name}")).text(&format!("touch {}", marker.display())).op(b"\x85R");
        let want = PickleError::Class { module: module.into(), name: name.into() };
        assert_eq!(pickle_error(&mut p), want);
        // The same through STACK_GLOBAL.
        let mut p = Pickle::new();
        p.text(module).text(name).op(b"\x93");
        assert_eq!(pickle_error(&mut p), want);
    }
    assert!(!marker.exists());
}

#[test]
fn opcodes_outside_the_list_are_named() {
    for code in 0..=255u8 {
        let mut p = Pickle::new();
        p.op(&[code]);
        let allowed =
            b"(012NJKMGX]CB)t\x85\x86\x87lae}dsucRbQhjqr.\x80\x81\x88\x89\x8a\x8c\x8d\x8e\x8f\x90\x91\x93\x94\x95";
        if !allowed.contains(&code) {
            assert_eq!(pickle_error(&mut p), PickleError::Opcode { code, offset: 2 }, "0x{code:02x}");
        } else {
            // Alone, each of the others is at most an error of another kind.
            convert(&p.zip(), &config()).unwrap_err();
        }
    }
}

#[test]
fn depth_and_sizes_are_bounded() {
    let deep = [b'('; 5000];
    assert_eq!(pickle_error(Pickle::new().op(&deep)), PickleError::TooLarge("nested values"));
    // Nesting without marks costs no recursion, neither while reading nor when dropped.
    let mut nested = Pickle::new();
    nested.op(b"]").op(&b"\x85".repeat(200_000));
    assert!(convert(&nested.zip(), &config()).is_err());
    // Lists that hold themselves.
    let mut cyclic = Pickle::new();
    cyclic.op(b"]q\x00h\x00a");
    assert!(convert(&cyclic.zip(), &config()).is_err());
    for claim in [b"\x8d".as_slice(), b"\x8e"] {
        let mut p = Pickle::new();
        p.op(claim).op(&u64::MAX.to_le_bytes());
        assert!(matches!(pickle_error(&mut p), PickleError::Truncated { .. }));
    }
    assert_eq!(pickle_error(Pickle::new().op(b"j\xff\xff\xff\xff")), PickleError::Memo(u32::MAX));
    // A memo index is a key, not a length.
    let mut sparse = Pickle::new();
    sparse.op(b"]r\xff\xff\xff\xff");
    let bytes = sparse.zip();
    let (_, peak) = peak_bytes(|| convert(&bytes, &config()));
    assert!(peak < 64 << 10, "{peak}");
}

#[test]
fn tensors_outside_their_storage_are_refused() {
    let tiny = tiny_jit(true, 5);
    let with = |offset: u64, strides: &[u64], shape: &[u64]| {
        let mut p = Pickle::new();
        p.op(b"}(");
        for t in &tiny {
            p.text(&t.name);
            if t.name == "blocks.0.attn.qkv.weight" {
                p.strided(&Tensor { shape: shape.to_vec(), ..t.clone() }, Float::F32, offset, strides);
            } else {
                p.tensor(t, Float::F32);
            }
        }
        convert(&p.op(b"u").zip(), &config())
    };
    let name = "blocks.0.attn.qkv.weight";
    assert!(with(0, &[8, 1], &[24, 8]).is_ok());
    assert!(matches!(with(1, &[8, 1], &[24, 8]), Err(ConvertError::OutOfStorage(n)) if n == name));
    assert!(matches!(with(i32::MAX as u64, &[8, 1], &[24, 8]), Err(ConvertError::OutOfStorage(n)) if n == name));
    assert!(matches!(with(0, &[1, 24], &[24, 8]), Err(ConvertError::Strided(n)) if n == name));
    assert!(matches!(with(0, &[0, 1], &[24, 8]), Err(ConvertError::Strided(n)) if n == name));
    assert!(matches!(with(0, &[8, 1], &[48, 8]), Err(ConvertError::Shape { tensor, .. }) if tensor == name));
}

// ---- zip --------------------------------------------------------------------------------------------------------

fn zip_error(bytes: &[u8]) -> ZipError {
    match convert(bytes, &config()).unwrap_err() {
        ConvertError::Zip { source, .. } => source,
        other => panic!("not a zip error: {other}"),
    }
}

#[test]
fn zip_files_that_torch_does_not_write_are_refused() {
    let tiny = tiny_jit(true, 6);
    let good = lightning(&tiny, &[], Float::F16);
    let position = |what: &[u8]| good.windows(what.len()).rposition(|w| w == what).unwrap();

    // The method in the directory entry of the last file: deflate.
    let entry = position(b"PK\x01\x02");
    let mut bytes = good.clone();
    bytes[entry + 10] = 8;
    assert_eq!(zip_error(&bytes), ZipError::Compressed("tiny/version".into()));
    bytes[entry + 10] = 0;
    bytes[entry + 8] |= 1;
    assert_eq!(zip_error(&bytes), ZipError::Encrypted("tiny/version".into()));

    // A byte of a storage.
    let mut bytes = good.clone();
    let data = position(b"tiny/data/0FB\x02\0ZZ") + 17;
    bytes[data] ^= 1;
    assert_eq!(zip_error(&bytes), ZipError::Crc("tiny/data/0".into()));

    let twice = [("tiny/data.pkl".to_owned(), b".".to_vec()), ("tiny/data.pkl".to_owned(), b".".to_vec())];
    assert_eq!(zip_error(&zip(&twice)), ZipError::Duplicate("tiny/data.pkl".into()));

    // The directory says that the first entry reaches into the second.
    let pair = zip(&[("a/data.pkl".to_owned(), vec![b'.'; 4]), ("b/data.pkl".to_owned(), vec![b'.'; 4])]);
    let first = pair.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let mut overlap = pair.clone();
    (overlap[first + 20], overlap[first + 24]) = (40, 40);
    assert_eq!(zip_error(&overlap), ZipError::Overlap("a/data.pkl".into()));
    // Two sizes for one stored entry; an entry that is not where the directory says.
    overlap[first + 20] = 4;
    assert!(matches!(zip_error(&overlap), ZipError::Inconsistent(_)));
    let mut moved = pair.clone();
    moved[first + 42] = 1;
    assert!(matches!(zip_error(&moved), ZipError::Inconsistent(_)));

    let reason = |bytes: &[u8]| convert(bytes, &config()).unwrap_err().to_string();
    assert!(reason(&zip(&[("readme".to_owned(), vec![])])).contains("one data.pkl"));
    assert!(reason(&pair).contains("one data.pkl"));
    let script = [("m/data.pkl".to_owned(), vec![]), ("m/constants.pkl".to_owned(), vec![])];
    assert!(reason(&zip(&script)).contains("TorchScript"));
    let big = [("m/data.pkl".to_owned(), vec![]), ("m/byteorder".to_owned(), b"big".to_vec())];
    assert!(reason(&zip(&big)).contains("big-endian"));
}

#[test]
fn other_formats_are_named_with_the_cure() {
    let reason = |bytes: &[u8]| convert(bytes, &config()).unwrap_err().to_string();
    assert!(reason(b"").contains("empty"));
    assert!(reason(b"GGUF\x03\0\0\0").contains("already a GGUF"));
    assert!(reason(b"\x80\x02\x8a\x0a\x6c\xfc").contains("save it again with torch.save"));
    let mut tar = vec![b'x'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(reason(&tar).contains("old tar format"));
    assert!(reason(b"what is this?").contains("neither a PyTorch zip file"));
    assert!(reason(br#"{"weight_map": {}}"#).contains("index"));
}

// ---- output -----------------------------------------------------------------------------------------------------

/// A disk with room for so many bytes.
struct SmallDisk(u64, Cursor<Vec<u8>>);

impl Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.1.position() + bytes.len() as u64 > self.0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for SmallDisk {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.1.seek(to)
    }
}

#[test]
fn a_full_disk_is_one_clear_error_wherever_it_strikes() {
    let tiny = tiny_jit(true, 7);
    let ckpt = lightning(&tiny, &[], Float::F16);
    let mut out = Cursor::new(Vec::new());
    let whole = convert_bytes(&ckpt, "x", &mut out, None, DType::I8, &config(), None).unwrap().bytes;
    for room in (0..whole).step_by(97) {
        let mut disk = SmallDisk(room, Cursor::new(Vec::new()));
        let error = convert_bytes(&ckpt, "out.gguf", &mut disk, None, DType::I8, &config(), None).unwrap_err();
        assert!(matches!(error, ConvertError::Write { .. }), "{room}: {error}");
        assert!(error.to_string().starts_with("cannot write out.gguf: "), "{error}");
    }
}
