//! What a prompt goes through, damaged: the text encoder's file, and the folder that it is made from. Every truncation
//! and every flipped bit of a header gives a typed error or embeddings, never a panic or an outsized allocation.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use denoir::core::gguf::Gguf;
use denoir::core::qwen3::EncodeError;
use denoir::{Error, Options, TextEncoder, TokenizerError};
use denoir_tests::convert_checkpoint::{Float, Tensor, safetensors};
use denoir_tests::hostile_alloc::{CountingAllocator, every_damage, peak_bytes};
use denoir_tests::tiny_encoder::{CONFIG, SHAPES, tokenizer_json, write};
use serde_json::{Value, json};

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

/// Many times what anything here takes, as other tests run beside this one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a folder whose embedding has `rows` rows, and converts it.
fn convert_with(folder: &Path, rows: u64, tokenizer: &str) -> Result<(), String> {
    let tensor = |(name, shape): (&str, &[u64])| {
        let shape = if name == "embed_tokens" { vec![rows, 8] } else { shape.to_vec() };
        let values = vec![0.5; shape.iter().product::<u64>() as usize];
        Tensor { name: format!("model.{name}.weight"), shape, values }
    };
    let tensors: Vec<Tensor> = SHAPES.into_iter().map(tensor).collect();
    std::fs::write(folder.join("model.safetensors"), safetensors(&tensors, Float::BF16)).unwrap();
    std::fs::write(folder.join("config.json"), CONFIG.replace(":5,", &format!(":{rows},"))).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    convert(folder, &folder.join("encoder.gguf"))
}

/// Opening them took time that grew with the square of their number.
#[test]
fn many_added_tokens_open_and_encode_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for special in [true, false] {
        let mut tokenizer: Value = serde_json::from_str(&tokenizer_json())?;
        let added = |id: usize| {
            let content = format!("<{}>{id}", "x".repeat(id % 40));
            json!({"id": id, "content": content, "special": special})
        };
        let list = tokenizer["added_tokens"].as_array_mut().context("no list")?;
        list.extend((5..20_005usize).map(added));
        convert_with(folder.path(), 20_005, &tokenizer.to_string()).map_err(anyhow::Error::msg)?;
        let file = folder.path().join("encoder.gguf");
        let len = std::fs::metadata(&file)?.len() as usize;
        let start = Instant::now();
        let (result, peak) = peak_bytes(|| encode(&file));
        assert!(result?.iter().all(|x| x.is_finite()) && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        assert!(peak < 64 * len + (64 << 20), "{peak} bytes allocated for a file of {len}");
        let ids = TextEncoder::open(&file)?.tokenizer().encode("ab<xxxxx>5<xxxxx>5<|endoftext|><>40");
        assert_eq!(ids, [2, 5, 5, 4, 40]);
    }
    Ok(())
}

/// Text of which each rule of the tokenizer could make much work.
#[test]
fn long_prompts_take_time_in_proportion() -> Result<()> {
    const MOST: usize = 1 << 20;
    let folder = tempfile::tempdir()?;
    let tokenizer = tokenizer_json().replace("\"ab\":2", "\"ab\":2,\"aa\":5,\"aaaa\":6,\"\u{cc}\":7,\"\u{301}\":8");
    let tokenizer = tokenizer.replace("[[\"a\",\"b\"]]", "[[\"a\",\"b\"],[\"a\",\"a\"],[\"aa\",\"aa\"]]");
    convert_with(folder.path(), 9, &tokenizer).map_err(anyhow::Error::msg)?;
    let encoder = TextEncoder::open(folder.path().join("encoder.gguf"))?;
    assert_eq!(encoder.tokenizer().encode("aaaaa"), [6, 0]);
    let pieces = [
        "a",
        "ab",
        " ",
        "\n",
        " \n",
        "\u{301}",
        "e\u{301}",
        "\u{301}\u{316}",
        "a\u{f71}\u{f72}\u{f74}",
        "\u{1100}\u{1161}",
        "日",
        "🚀",
        "'",
        "'s",
        "1",
        "!",
        " !",
        "\u{a0}",
        "\u{2028}",
        "<|endoftext|",
        "<|endoftext|>",
        "\0",
        "\u{fdfa}",
    ];
    for piece in pieces {
        // A quarter: work that grows with the square would still take minutes.
        let text = piece.repeat(MOST / 4 / piece.len());
        let start = Instant::now();
        let (ids, peak) = peak_bytes(|| encoder.tokenizer().encode(&text));
        assert!(start.elapsed() < PATIENCE, "{piece:?}: {:?}", start.elapsed());
        assert!(peak < 64 * text.len() + (64 << 20) && ids.len() <= 40 * text.len(), "{piece:?}: {peak} bytes");
    }
    let options = Options { threads: Some(1), ..Options::default() };
    ensure!(encoder.encode(&[&"a".repeat(MOST)], 4, &options).is_ok());
    let error = encoder.encode(&["", &"a".repeat(MOST + 1)], 4, &options).unwrap_err();
    assert_eq!(error.to_string(), "a prompt may have up to 1 MiB of text");
    Ok(())
}

#[test]
fn a_vocabulary_has_no_more_tokens_than_the_embedding_has_rows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encoder.gguf");
    convert_with(folder.path(), 6, &tokenizer_json()).map_err(anyhow::Error::msg)?;
    let mut bytes = std::fs::read(&file)?;
    let name = b"token_embd.weight";
    let dims = bytes.windows(name.len()).position(|w| w == name).context("no embedding")? + name.len() + 4;
    bytes[dims + 8..dims + 16].copy_from_slice(&5u64.to_le_bytes());
    std::fs::write(&file, bytes)?;
    match TextEncoder::open(&file) {
        Err(Error::Tokenizer(_, TokenizerError::TooManyTokens { tokens: 6, rows: 5 })) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn encoding_stops_when_told_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    convert_with(folder.path(), 5, &tokenizer_json()).map_err(anyhow::Error::msg)?;
    let encoder = TextEncoder::open(folder.path().join("encoder.gguf"))?.with_cancel(Arc::new(true.into()));
    let error = encoder.encode(&["a"], 4, &Options { threads: Some(1), ..Options::default() }).unwrap_err();
    ensure!(matches!(error, Error::Encode(EncodeError::Cancelled)), "{error}");
    Ok(())
}

#[test]
fn hostile_tokenizers_are_refused_within_their_bounds() -> Result<()> {
    const FILL: usize = 1 << 20;
    let folder = tempfile::tempdir()?;
    let good = tokenizer_json();
    let vocabulary: String = (0..FILL / 16).map(|i| format!("\"t{i}\":{},", i % 5)).collect();
    for (what, text) in [
        ("nested", "[".repeat(FILL)),
        ("numbers", format!("{{\"model\":[{}0]}}", "0,".repeat(FILL / 2))),
        ("a vocabulary of one number", good.replace("\"a\":0,", &vocabulary)),
        (
            "merges of nothing",
            good.replace("[[\"a\",\"b\"]]", &format!("[{}[\"\",\"\"]]", "[\"\",\"\"],".repeat(FILL / 8))),
        ),
        ("long merges", good.replace("[[\"a\",\"b\"]]", &format!("[[\"{}\",\"b\"]]", "a".repeat(FILL)))),
        (
            "added tokens",
            good.replace(
                "\"added_tokens\":[",
                &format!("\"added_tokens\":[{}", "{\"id\":0,\"content\":\"\"},".repeat(FILL / 24)),
            ),
        ),
    ] {
        let start = Instant::now();
        let (result, peak) = peak_bytes(|| convert_with(folder.path(), 5, &text));
        assert!(peak < 64 * text.len() + (64 << 20), "{what}: {peak} bytes allocated");
        if result.is_ok() {
            let (_, peak) = peak_bytes(|| encode(&folder.path().join("encoder.gguf")));
            assert!(peak < 64 * text.len() + (64 << 20), "{what}: {peak} bytes allocated");
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {:?}", start.elapsed());
    }
    Ok(())
}
