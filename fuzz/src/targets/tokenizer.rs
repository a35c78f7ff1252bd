//! A tokenizer's arrays in a model file, and texts. The tokens are compared with those of the slow, obvious way.

use std::collections::HashMap;

use denoir::Tokenizer;
use denoir::core::gguf::{Gguf, keys};

use crate::input::Input;

/// Rows of the embedding.
const ROWS: usize = 4000;
/// Types of values in a model file.
const U32: u32 = 4;
const I32: u32 = 5;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// Pieces of tokens and texts: those that a split or a normalisation treats in their own way, and the stand-ins of bytes.
const PIECES: [&str; 24] = [
    "a",
    "b",
    "Ġ",
    "Ċ",
    "'s",
    " ",
    "\n",
    "\r\n",
    "\t",
    "1",
    "2",
    "é",
    "e\u{301}",
    "日",
    "Ã",
    "©",
    "<|",
    "|>",
    "!",
    "?!",
    "\u{a0}",
    "한",
    "\u{1100}\u{1161}",
    "👩\u{200d}🚀",
];

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let arrays = Arrays::choose(&mut input);
    let file = arrays.file();
    let gguf = Gguf::parse(&file).expect("a valid file");
    let tokenizer = match Tokenizer::from_gguf(&gguf, ROWS) {
        Ok(tokenizer) => tokenizer,
        Err(e) => return assert!(!e.to_string().is_empty()),
    };
    assert!(tokenizer.tokens() <= ROWS);
    for text in [text(&mut input), String::from_utf8_lossy(input.bytes(usize::MAX)).into_owned()] {
        let ids = tokenizer.encode(&text);
        assert!(ids.iter().all(|&id| (id as usize) < arrays.tokens.len()), "a token beyond the vocabulary");
        assert_eq!(ids, tokenizer.encode(&text), "other tokens the second time");
        if let Some(merged) = arrays.merge_words(&text) {
            assert_eq!(ids, merged, "other tokens of {text:?}");
        }
    }
}

/// A vocabulary.
#[derive(Default)]
struct Arrays {
    tokens: Vec<String>,
    types: Vec<u32>,
    merges: Vec<String>,
}

impl Arrays {
    fn choose(input: &mut Input<'_>) -> Arrays {
        let mut arrays = Arrays::default();
        if input.flag() {
            arrays.tokens = "abcdeĠĊ12!?'sÃ©".chars().map(String::from).collect();
        }
        for _ in 0..input.below(200) {
            let token = match input.below(4) {
                // Two tokens that can be merged.
                0 | 1 if !arrays.tokens.is_empty() => {
                    let mut any = || arrays.tokens[usize::from(input.byte()) % arrays.tokens.len()].clone();
                    let (left, right) = (any(), any());
                    // Doubling a token again and again would make it as long as 2 to their number.
                    if left.len() + right.len() > 64 {
                        continue;
                    }
                    arrays.merges.push(format!("{left} {right}"));
                    left + &right
                }
                2 => {
                    let len = input.below(6);
                    String::from_utf8_lossy(input.bytes(len)).into_owned()
                }
                _ => text(input),
            };
            arrays.tokens.push(token);
            arrays.types.resize(arrays.tokens.len() - 1, 1);
            arrays.types.push([1, 1, 3, 4, 5, 0, u32::MAX][input.below(7)]);
        }
        for _ in 0..input.below(8) {
            arrays.merges.push(text(input));
        }
        if input.flag() || arrays.tokens.is_empty() {
            arrays.tokens.push("<|endoftext|>".into());
        }
        arrays
    }

    /// A model file with nothing else.
    fn file(&self) -> Vec<u8> {
        use keys::tokenizer::{MERGES, MODEL, PADDING, PRE, TOKEN_TYPE, TOKENS};
        let mut file = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &6u64.to_le_bytes()].concat();
        let mut key = |key: &str, kind: u32, value: &[u8]| {
            put(&mut file, key);
            file.extend(kind.to_le_bytes());
            file.extend(value);
        };
        let string = |text: &str| {
            let mut value = Vec::new();
            put(&mut value, text);
            value
        };
        let strings = |all: &[String]| array(STRING, all.len(), all.iter().flat_map(|text| string(text)));
        key(MODEL, STRING, &string("gpt2"));
        key(PRE, STRING, &string("qwen2"));
        key(TOKENS, ARRAY, &strings(&self.tokens));
        let types = self.types.iter().flat_map(|kind| kind.to_le_bytes());
        key(TOKEN_TYPE, ARRAY, &array(I32, self.types.len(), types));
        key(MERGES, ARRAY, &strings(&self.merges));
        key(PADDING, U32, &0u32.to_le_bytes());
        file
    }

    /// The tokens of a text that is one word of ASCII letters, by searching all merges for each step; `None` for other
    /// texts, and where a token is matched before words are split.
    fn merge_words(&self, text: &str) -> Option<Vec<u32>> {
        let first = |(token, kind): (&String, &u32)| [3, 4].contains(kind) && !token.is_empty();
        if !text.bytes().all(|b| b.is_ascii_alphabetic()) || self.tokens.iter().zip(&self.types).any(first) {
            return None;
        }
        let ids: HashMap<&str, u32> = self.tokens.iter().map(String::as_str).zip(0..).collect();
        let mut word: Vec<u32> =
            text.chars().filter_map(|letter| ids.get(String::from(letter).as_str()).copied()).collect();
        let merge = |merge: &String| {
            let (left, right) = merge.split_once(' ')?;
            Some((*ids.get(left)?, *ids.get(right)?, *ids.get(format!("{left}{right}").as_str())?))
        };
        // Of a merge that is there twice the last rank counts.
        let mut merges: Vec<(u32, u32, u32)> = self.merges.iter().filter_map(merge).collect();
        let pairs: Vec<_> = merges.iter().map(|&(left, right, _)| (left, right)).collect();
        let mut rank = 0..;
        merges.retain(|_| rank.next().is_some_and(|at: usize| !pairs[at + 1..].contains(&pairs[at])));
        let place = |merge: &(u32, u32, u32), word: &[u32]| word.windows(2).position(|pair| pair == [merge.0, merge.1]);
        while let Some((merge, at)) = merges.iter().find_map(|merge| Some((merge, place(merge, &word)?))) {
            word.splice(at..at + 2, [merge.2]);
        }
        Some(word)
    }
}

/// A few pieces.
fn text(input: &mut Input<'_>) -> String {
    (0..input.below(9)).map(|_| input.pick(&PIECES)).collect()
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn array(kind: u32, len: usize, values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend((len as u64).to_le_bytes());
    out.extend(values);
    out
}
