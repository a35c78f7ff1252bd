//! Small files that ask for much: what reading them may take is a multiple of their length, in memory and in time, and
//! what they make is no larger than they are.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use denoir_convert::{Config, ConvertError, PickleError, convert_bytes};
use denoir_core::DType;
use denoir_tests::convert_checkpoint::{Float, Pickle, SMALLEST_CONFIG, Tensor, safetensors, smallest_jit, zip, zip64};
use denoir_tests::hostile_alloc::{CountingAllocator, peak_bytes};
use denoir_tests::tiny_encoder;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Most bytes that a file of `len` bytes may take.
fn memory(len: usize) -> usize {
    64 * len + (64 << 20)
}

/// Many times what a file of `len` bytes may take, a second a megabyte, as other tests run beside this one.
fn time(len: usize) -> Duration {
    Duration::from_secs(20) + 20 * Duration::from_micros(len as u64)
}

/// Runs `read` on a file of `len` bytes within its bounds.
fn bounded<T>(what: &str, len: usize, read: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let (result, peak) = peak_bytes(read);
    assert!(peak <= memory(len), "{what}: {peak} bytes allocated for a file of {len}");
    assert!(start.elapsed() <= time(len), "{what}: {:?} for a file of {len}", start.elapsed());
    result
}

/// Reads a checkpoint in memory within its bounds; its error, in one line.
fn refused(what: &str, bytes: &[u8]) -> ConvertError {
    let config = Config::parse(SMALLEST_CONFIG.as_bytes()).unwrap();
    let mut out = Cursor::new(Vec::new());
    let read = || convert_bytes(bytes, "bomb", &mut out, None, DType::BF16, &config, None);
    let error = bounded(what, bytes.len(), read).map(drop).expect_err(what);
    assert!(!error.to_string().contains('\n'), "{what}: {error}");
    error
}

// ---- pickles ----------------------------------------------------------------------------------------------------

/// Bytes of a pickle that is filled up.
const FILL: usize = 1 << 20;

/// A pickle that starts with `start` and repeats `more`.
fn repeated(start: &[u8], more: &[u8]) -> Vec<u8> {
    let mut p = Pickle::new();
    p.op(start).op(&more.repeat(FILL / more.len()));
    zip64(&p.entries())
}

#[test]
fn pickles_take_a_multiple_of_their_length() {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01t";
    let tensor =
        [b"ctorch._utils\n_rebuild_tensor_v2\nq\x05(".as_slice(), storage, b"QK\0(", &b"K\x01".repeat(8)].concat();
    let tensor = [&tensor, b"t(".as_slice(), &b"K\x01".repeat(8), b"ttq\x06"].concat();
    let bombs: [(&str, &[u8], &[u8]); 16] = [
        ("nested tuples", b"N", b"\x85"),
        ("lists", b"", b"]"),
        ("lists of one", b"", b"]Na"),
        ("dicts of one", b"", b"}NNs"),
        ("dicts of marks", b"", b"(d"),
        ("copies of one value", b"N", b"2"),
        ("recalled values", b"Nq\0", b"h\0"),
        ("memo entries", b"N", b"\x94"),
        ("marks", b"N", b"(1"),
        ("frozen sets", b"", b"(\x91"),
        ("storages", &[storage.as_slice(), b"q\0"].concat(), b"h\0Q"),
        ("tensors", &tensor, b"h\x05h\x06R"),
        ("a dict that grows", b"}q\0", b"h\0NNs0"),
        ("a list that holds itself", b"]q\0", b"h\0h\0a0"),
        ("classes", b"", b"ctorch\nSize\n"),
        ("class names from the stack", b"X\x05\0\0\0torchq\0X\x04\0\0\0Sizeq\x01", b"h\0h\x01\x93"),
    ];
    for (what, start, more) in bombs {
        refused(what, &repeated(start, more));
    }
}

#[test]
fn copies_count_as_much_as_what_they_copy() {
    let items = FILL / 6;
    let dict = [b"}(".as_slice(), &b"K\0N".repeat(items), b"uq\x01"].concat();
    let pairs = [b"](".as_slice(), &b"K\0K\0\x86".repeat(items), b"eq\x01"].concat();
    let tuple = [b"(".as_slice(), &b"N".repeat(items), b"tq\x01"].concat();
    for (what, shared, copy) in [
        ("the state of many objects", &dict, b"}h\x01b".as_slice()),
        ("the state of many namespaces", &dict, b"cargparse\nNamespace\n)\x81h\x01b"),
        ("the pairs of many dicts", &pairs, b"ccollections\nOrderedDict\nh\x01\x85R"),
    ] {
        let bytes = repeated(shared, copy);
        let error = refused(what, &bytes);
        let wanted = PickleError::TooLarge("values for its length");
        assert!(matches!(&error, ConvertError::Pickle { source, .. } if *source == wanted), "{what}: {error}");
    }
    refused("the arguments of many calls", &repeated(&tuple, b"cargparse\nNamespace\nh\x01R"));
}

/// A dictionary may refer to one name and one tensor as often as it likes.
#[test]
fn tensors_and_their_names_are_bounded() {
    let one = Tensor { name: String::new(), shape: vec![1], values: vec![1.0] };
    for (what, name) in [("many tensors", "a".to_owned()), ("a long name", "a".repeat(FILL))] {
        let mut p = Pickle::new();
        p.tensor(&one, Float::F32).op(b"q\x640").text(&name).op(b"q\x650}(");
        let bytes = p.op(&b"h\x65h\x64".repeat(FILL / 4)).op(b"u").zip();
        let error = refused(what, &bytes);
        assert!(error.to_string().contains("too many"), "{what}: {error}");
    }
}

/// A flag set by another thread ends the reading of a pickle that would take its whole budget of time.
#[test]
fn a_pickle_stops_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("p.ckpt"), folder.path().join("p.gguf"));
    fs::write(&input, repeated(b"N", b"(1")).unwrap();
    let cancel = std::sync::Arc::new(true.into());
    let options = denoir_convert::Options { cancel: Some(cancel), ..Default::default() };
    let error = denoir_convert::convert(&input, &output, &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ConvertError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

// ---- zip files --------------------------------------------------------------------------------------------------

#[test]
fn zip_files_do_not_grow() {
    let entries: Vec<_> = (0..20_000).map(|i| (format!("a/{i}"), Vec::new())).collect();
    refused("many entries", &zip64(&entries));
    let mut names = entries;
    names.truncate(16);
    names.iter_mut().enumerate().for_each(|(i, (name, _))| *name = format!("{i}/{}", "data.pkl/".repeat(7000)));
    refused("long names", &zip(&names));

    // Counts and sizes that no file has, in the end record, its zip64 counterpart and a directory entry.
    let good = zip64(&[("a/data.pkl".to_owned(), b".".to_vec())]);
    let at = |what: &[u8]| good.windows(what.len()).rposition(|w| w == what).unwrap();
    for (record, offset, len) in [
        (b"PK\x05\x06", 10, 2),
        (b"PK\x05\x06", 12, 4),
        (b"PK\x06\x06", 24, 16),
        (b"PK\x06\x06", 40, 8),
        (b"PK\x01\x02", 20, 8),
    ] {
        let mut bytes = good.clone();
        bytes[at(record) + offset..][..len].fill(0xff);
        refused("impossible sizes", &bytes);
    }
}

/// Many names for one storage: each tensor is valid, and the model file would be far larger than the checkpoint.
#[test]
fn a_storage_is_not_copied_for_every_tensor_that_shares_it() {
    let mut p = Pickle::new();
    let tensors = smallest_jit(true, 1);
    let largest = tensors.iter().max_by_key(|t| t.values.len()).unwrap();
    p.op(b"}(").tensor(largest, Float::F64).op(b"0");
    for t in &tensors {
        let key = p.storages.len() - 1;
        p.text(&t.name).tensor(t, Float::F64);
        p.storages.truncate(key + 1);
        // Every later tensor is a view of the first storage.
        let named = format!("X\x01\0\0\0{}", key + 1);
        let from = p.bytes.windows(named.len()).rposition(|w| w == named.as_bytes()).unwrap();
        p.bytes[from + named.len() - 1] = b'0';
    }
    let error = refused("one storage", &p.op(b"u").zip());
    assert!(error.to_string().contains("shares its storage"), "{error}");
}

// ---- safetensors ------------------------------------------------------------------------------------------------

fn with_header(header: &str) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes()].concat()
}

#[test]
fn safetensors_headers_are_bounded() {
    for len in [17 << 20, 100_000_000, u64::MAX / 2, u64::MAX] {
        let mut bytes = with_header("{}");
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        refused("a long header", &bytes);
    }
    let empty = |name: &str| format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let many = |count: usize| (0..count).map(|i| empty(&i.to_string())).collect::<Vec<_>>().join(",");
    let deep = FILL / 16;
    for (what, header) in [
        ("many tensors", format!("{{{}}}", many(20_000))),
        ("a long name", format!("{{{}}}", empty(&"a".repeat(FILL)))),
        ("one name many times", format!("{{{}}}", vec![empty("a"); 20_000].join(","))),
        ("nested arrays", format!("{{\"a\":{}", "[".repeat(deep))),
        ("nested objects", "{\"a\":".repeat(deep)),
        (
            "many dimensions",
            format!(r#"{{"a":{{"dtype":"F32","shape":[{}0],"data_offsets":[0,0]}}}}"#, "1,".repeat(FILL / 2)),
        ),
        ("metadata", format!("{{\"__metadata__\":{{{}\"z\":\"\"}}}}", r#""a":"","#.repeat(FILL / 7))),
        ("an unknown type", empty("a").replace("F32", &"F".repeat(FILL))),
        ("spaces", " ".repeat(FILL)),
    ] {
        refused(what, &with_header(&header));
    }
    // Two tensors of the same bytes.
    let one = |name: &str| format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
    let both = format!("{{{},{}}}", one("a"), one("b"));
    assert!(refused("an overlap", &[with_header(&both), vec![0; 4]].concat()).to_string().contains("offset"));
}

#[test]
fn an_index_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (index, output) = (folder.path().join("m.safetensors.index.json"), folder.path().join("out.gguf"));
    let shards = |count: usize| (0..count).map(|i| format!(r#""{i}":"{i}""#)).collect::<Vec<_>>().join(",");
    for (what, text) in [
        ("too long", format!("{{\"weight_map\":{{\"a\":\"a\"}}}}{}", " ".repeat(17 << 20))),
        ("many shards", format!("{{\"weight_map\":{{{}}}}}", shards(2000))),
        ("nested", format!("{{\"weight_map\":{}", "[".repeat(FILL))),
        ("nested elsewhere", format!("{{\"metadata\":{}", "{\"a\":".repeat(FILL / 8))),
        ("numbers", format!("{{\"weight_map\":[{}0]}}", "0,".repeat(FILL / 2))),
        ("two maps", r#"{"weight_map":{"a":"a"},"weight_map":{"a":"b"}}"#.into()),
        ("a name with control characters", r#"{"weight_map":{"a":"\u001b[31m\n"}}"#.into()),
        ("itself", r#"{"weight_map":{"a":"m.safetensors.index.json"}}"#.into()),
    ] {
        fs::write(&index, &text).unwrap();
        let convert = || denoir_convert::convert(&index, &output, &Default::default(), &mut |_| {});
        let error = bounded(what, text.len(), convert).map(drop).expect_err(what);
        assert!(error.to_string().lines().count() <= 2 && !output.exists(), "{what}: {error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{what}: something is left behind");
    }
}

// ---- configurations ---------------------------------------------------------------------------------------------

#[test]
fn configurations_are_bounded() {
    let room = (1 << 20) - 64;
    let laughs: String =
        (1..9).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))).collect();
    let layers: String = (0..500).map(|i| format!("- &a{} [*a{i}]\n", i + 1)).collect();
    for (what, text) in [
        ("aliases of aliases", format!("a0: &a0 [x, x]\n{laughs}")),
        ("aliases of a long text", format!("a: &a {}\nb: [{}*a]\n", "x".repeat(room / 2), "*a,".repeat(room / 6 - 16))),
        (
            "aliases of a long key",
            format!("a: &a {{{}: 1}}\nb: [{}*a]\n", "x".repeat(room / 2), "*a,".repeat(room / 6 - 16)),
        ),
        ("layers of aliases", format!("- &a0 [x]\n{layers}")),
        ("many anchors", (0..room / 16).map(|i| format!("- &a{i} x\n")).collect()),
        ("nested sequences", "[".repeat(room)),
        ("nested mappings", "{a: ".repeat(room / 4)),
        ("nested blocks", "- ".repeat(room / 2)),
        ("nested keys", "? ".repeat(room / 2)),
        ("many values", "- x\n".repeat(room / 4)),
        ("JSON nested", "{\"a\":".repeat(room / 5)),
        ("JSON of numbers", format!("{{\"depth\": [{}0]}}", "0,".repeat(room / 2 - 16))),
    ] {
        assert!(text.len() <= 1 << 20, "{what}: {} bytes", text.len());
        let error = bounded(what, text.len(), || Config::parse(text.as_bytes())).expect_err(what);
        assert!(!error.to_string().is_empty(), "{what}");
    }
    let too_long = "x".repeat((1 << 20) + 1);
    assert!(Config::parse(too_long.as_bytes()).unwrap_err().to_string().contains("1 MiB"));
}

/// What lies beside a checkpoint is read up to a limit, and the limit is named.
#[test]
fn small_files_are_read_up_to_their_limit() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.safetensors"), safetensors(&smallest_jit(true, 1), Float::F16)).unwrap();
    fs::File::create(at("long")).unwrap().set_len(1 << 32).unwrap();
    let long = Some(at("long"));
    for options in [
        denoir_convert::Options { config: long.clone(), ..Default::default() },
        denoir_convert::Options { labels: long, ..Default::default() },
    ] {
        let convert = || denoir_convert::convert(&at("a.safetensors"), &at("out.gguf"), &options, &mut |_| {});
        let error = bounded("a long file", 1 << 20, convert).map(drop).unwrap_err();
        assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    }
}

// ---- text encoders ----------------------------------------------------------------------------------------------

/// Writes a text encoder's folder whose tensors are a checkpoint's, given as `model.safetensors` or as a pickle.
fn convert_encoder(folder: &Path, input: &str) -> ConvertError {
    let len = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len() as usize).sum();
    let convert =
        || denoir_convert::convert(&folder.join(input), &folder.join("out.gguf"), &Default::default(), &mut |_| {});
    bounded("a text encoder", len, convert).map(drop).expect_err(input)
}

/// The vocabulary is as long as the embedding has rows, and those of a pickle are only a claim.
#[test]
fn an_embedding_without_data_makes_no_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    tiny_encoder::write(folder.path(), Float::F16).unwrap();
    let config = tiny_encoder::CONFIG.replace("\"vocab_size\":5", "\"vocab_size\":16777216");
    fs::write(folder.path().join("config.json"), config).unwrap();
    let mut p = Pickle::new();
    p.op(b"}(");
    for (name, shape) in tiny_encoder::SHAPES {
        let values = vec![0.5; shape.iter().product::<u64>() as usize];
        let shape = if name == "embed_tokens" { vec![1 << 24, 8] } else { shape.to_vec() };
        p.text(&format!("model.{name}.weight")).tensor(&Tensor { name: name.into(), shape, values }, Float::F16);
    }
    fs::write(folder.path().join("model.pth"), p.op(b"u").zip()).unwrap();
    let error = convert_encoder(folder.path(), "model.pth");
    assert!(matches!(&error, ConvertError::OutOfStorage(name) if name.contains("token_embd")), "{error}");
}
