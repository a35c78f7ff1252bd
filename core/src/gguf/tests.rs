//! Unit tests over files written by hand; every truncation and bit flip is in the `tests` crate.

extern crate std;

use super::*;
use std::vec::Vec;
use std::{format, vec};

/// Writes just enough GGUF for a test.
struct File {
    tensors: u64,
    entries: u64,
    metadata: Vec<u8>,
    infos: Vec<u8>,
    data: Vec<u8>,
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

impl File {
    fn new() -> Self {
        File { tensors: 0, entries: 0, metadata: vec![], infos: vec![], data: vec![] }
    }

    fn entry(&mut self, key: &str, code: u32, value: &[u8]) -> &mut Self {
        text(&mut self.metadata, key);
        self.metadata.extend(code.to_le_bytes());
        self.metadata.extend(value);
        self.entries += 1;
        self
    }

    fn tensor(&mut self, name: &str, code: u32, dims: &[u64], offset: u64, data: &[u8]) -> &mut Self {
        text(&mut self.infos, name);
        self.infos.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| self.infos.extend(d.to_le_bytes()));
        self.infos.extend(code.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self.data.resize(self.data.len().max(offset as usize), 0);
        self.data.extend(data);
        self.tensors += 1;
        self
    }

    fn bytes(&self, alignment: usize) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.entries.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.infos);
        out.resize(out.len().next_multiple_of(alignment), 0);
        out.extend(&self.data);
        out
    }
}

fn string_array(items: &[&str]) -> Vec<u8> {
    let mut out = 8u32.to_le_bytes().to_vec();
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|s| text(&mut out, s));
    out
}

fn error(file: &File) -> GgufError {
    Gguf::parse(&file.bytes(32)).expect_err("the file must be refused")
}

#[test]
fn reads_values_and_tensors() {
    let mut file = File::new();
    let mut name = vec![];
    text(&mut name, "tiny");
    file.entry("general.name", 8, &name)
        .entry("general.alignment", 4, &64u32.to_le_bytes())
        .entry("a.i64", 11, &7i64.to_le_bytes())
        .entry("a.neg", 5, &(-1i32).to_le_bytes())
        .entry("a.f64", 12, &0.5f64.to_le_bytes())
        .entry("a.bool", 7, &[1])
        .entry("a.names", 9, &string_array(&["x", "yy", ""]));
    file.tensor("w", 0, &[3, 2], 0, &[1; 24]).tensor("q", 8, &[32], 64, &[2; 34]).tensor("odd", 2, &[32], 128, &[]);
    let bytes = file.bytes(64);
    let gguf = Gguf::parse(&bytes).unwrap();

    assert_eq!(gguf.string("general.name"), Ok("tiny"));
    assert_eq!(
        (gguf.alignment(), gguf.u32("a.i64"), gguf.f32("a.f64"), gguf.bool("a.bool")),
        (64, Ok(7), Ok(0.5), Ok(true))
    );
    assert_eq!(gguf.u32("a.neg"), Err(GgufError::KeyType { key: cut("a.neg"), wanted: "u32" }));
    assert_eq!(gguf.strings("a.names").unwrap().collect::<Vec<_>>(), ["x", "yy", ""]);
    assert_eq!(gguf.u32("none"), Err(GgufError::MissingKey(cut("none"))));
    assert_eq!(gguf.metadata().count(), 7);

    let w = gguf.tensor("w").unwrap();
    assert_eq!((w.dims.as_slice(), w.data, w.ggml_type), (&[2, 3][..], &[1u8; 24][..], GgmlType::F32));
    assert_eq!(w.offset, gguf.data_start());
    assert_eq!(gguf.tensor("q").unwrap().data, &[2u8; 34]);
    assert_eq!(gguf.tensor("odd").unwrap_err(), GgufError::TensorType { tensor: cut("odd"), code: 2 });
    assert_eq!(gguf.tensors().map(|t| t.name).collect::<Vec<_>>(), ["w", "q", "odd"]);
}

#[test]
fn refuses_what_is_wrong_and_names_it() {
    assert_eq!(Gguf::parse(b"GGU").unwrap_err(), GgufError::NotGguf);
    assert_eq!(Gguf::parse(b"GGUF\0\0\0\x03").unwrap_err(), GgufError::BigEndian);
    assert_eq!(Gguf::parse(b"GGUF\x02\0\0\0").unwrap_err(), GgufError::Version(2));

    let zero = &0u32.to_le_bytes();
    assert_eq!(error(File::new().entry("k", 4, zero).entry("k", 4, zero)), GgufError::DuplicateKey(cut("k")));
    assert_eq!(error(File::new().entry("k", 99, zero)), GgufError::ValueType { key: cut("k"), code: 99 });
    assert_eq!(error(File::new().entry("k", 7, &[2])), GgufError::BadBool { key: cut("k") });
    assert_eq!(error(File::new().entry("general.alignment", 4, &48u32.to_le_bytes())), GgufError::Alignment(48));
    assert_eq!(error(File::new().entry("general.alignment", 4, zero)), GgufError::Alignment(0));
    let mut nested = 9u32.to_le_bytes().to_vec();
    nested.extend(1u64.to_le_bytes());
    assert_eq!(error(File::new().entry("k", 9, &nested)), GgufError::ValueType { key: cut("k"), code: 9 });
    let mut huge = 8u32.to_le_bytes().to_vec();
    huge.extend(u64::MAX.to_le_bytes());
    assert!(matches!(error(File::new().entry("k", 9, &huge)), GgufError::TooMany { .. }));

    let (tensor, row) = (cut("t"), [0u8; 4]);
    let twice = error(File::new().tensor("t", 0, &[1], 0, &row).tensor("t", 0, &[1], 32, &row));
    assert_eq!(twice, GgufError::DuplicateTensor(tensor.clone()));
    let over = error(File::new().tensor("s", 0, &[16], 0, &[0; 64]).tensor("t", 0, &[1], 32, &row));
    assert_eq!(over, GgufError::Overlap { tensor: tensor.clone() });
    assert_eq!(
        error(File::new().tensor("t", 0, &[1], 4, &row)),
        GgufError::Misaligned { tensor: tensor.clone(), offset: 4 }
    );
    assert_eq!(
        error(File::new().tensor("t", 0, &[2], 0, &row)),
        GgufError::OutOfFile { tensor: tensor.clone(), offset: 0 }
    );
    for dims in [&[0u64][..], &[1 << 40, 1 << 40], &[1 << 62]] {
        assert_eq!(error(File::new().tensor("t", 0, dims, 0, &row)), GgufError::Dims { tensor: tensor.clone() });
    }
    assert_eq!(error(File::new().tensor("t", 8, &[33], 0, &[0; 68])), GgufError::Dims { tensor: tensor.clone() });
    assert_eq!(error(File::new().tensor("t", 0, &[1; 5], 0, &row)), GgufError::Rank { tensor, rank: 5 });
    assert_eq!(error(File::new().tensor(&"n".repeat(65), 0, &[1], 0, &row)), GgufError::NameLength(65));
}

#[test]
fn counts_beyond_the_file_are_refused_before_any_loop() {
    for at in [8, 16] {
        let mut bytes = File::new().bytes(32);
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(Gguf::parse(&bytes), Err(GgufError::TooMany { count: u64::MAX, .. })));
    }
}

#[test]
fn long_names_in_errors_are_cut_at_a_character() {
    let name = "é".repeat(40);
    assert_eq!(cut(&name).as_str(), "é".repeat(32));
    assert_eq!(format!("{}", GgufError::MissingKey(cut("k"))), "metadata key \"k\" is missing");
}

/// Names made to fall into one part of the search for repetitions cost no time: they are refused. Others are not.
#[test]
fn names_with_like_hashes_are_refused() {
    let with = |names: &mut dyn Iterator<Item = u64>| {
        let mut file = File::new();
        for i in names.take(1024) {
            file.entry(&format!("k{i}"), 0, &[1]);
        }
        Gguf::parse(&file.bytes(32)).map(drop)
    };
    assert_eq!(with(&mut (0..)), Ok(()));
    let alike = |i: &u64| hash(&format!("k{i}")) >> 59 == 7;
    assert!(matches!(with(&mut (0..).filter(alike)), Err(GgufError::DuplicateKey(_))));
}
