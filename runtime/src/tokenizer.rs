//! The byte-level BPE tokenizer of Qwen's models: text is normalised to NFC and split into words, and the bytes of each
//! word are merged pair by pair, the pair that was learnt first coming first.

mod words;

use std::collections::{BinaryHeap, HashMap};

use aho_corasick::{AhoCorasick, MatchKind};
use denoir_core::gguf::{Gguf, GgufError, keys::tokenizer as keys};
use unicode_normalization::UnicodeNormalization;

use crate::reserve::fallibly;

/// The padding token.
const PAD: &str = "<|endoftext|>";
/// Types of tokens that are matched before the text is split into words: control and user-defined.
const MATCHED_FIRST: [u32; 2] = [3, 4];
/// Bytes of all tokens that are matched first: some forty times as much is needed to search for them.
const MAX_ADDED_BYTES: usize = 1 << 20;

/// Two tokens, the rank of their merge, and the token that it makes.
type Merges = HashMap<(u32, u32), (u32, u32)>;

/// The byte-level BPE tokenizer of Qwen's models.
#[derive(Debug)]
pub struct Tokenizer {
    /// The token of each byte; one that the vocabulary lacks is dropped.
    bytes: [Option<u32>; 256],
    /// Of two neighbours, the rank of their merge and the token that they become.
    merges: Merges,
    /// Tokens that are matched as they are, before everything else, and their numbers.
    added: AhoCorasick,
    added_ids: Vec<u32>,
    pad: u32,
    tokens: usize,
}

/// Why a tokenizer could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The model file lacks part of the tokenizer.
    Gguf(GgufError),
    /// The file has another kind of tokenizer.
    Kind(String),
    /// The padding token is missing.
    NoPadding,
    /// A merge is not of two tokens that make a third.
    Merge(String),
    /// The vocabulary has more tokens than the embedding has rows.
    TooManyTokens {
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The tokens that are matched first are too many or too long to search for.
    Search,
    /// There is no memory for the vocabulary.
    Memory,
}

impl std::fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenizerError::Gguf(e) => e.fmt(f),
            TokenizerError::Kind(kind) => write!(f, "a tokenizer of kind {kind:?}; denoir has Qwen's, gpt2 and qwen2"),
            TokenizerError::NoPadding => write!(f, "the tokenizer has no {PAD}"),
            TokenizerError::Merge(merge) => {
                write!(f, "the tokenizer's merge {merge:?} is not of two tokens that make a third")
            }
            TokenizerError::TooManyTokens { tokens, rows } => {
                write!(f, "the tokenizer has {tokens} tokens, the embedding {rows} rows")
            }
            TokenizerError::Search => f.write_str("the tokenizer's added tokens are too many or too long"),
            TokenizerError::Memory => f.write_str("out of memory for the tokenizer's vocabulary"),
        }
    }
}

impl std::error::Error for TokenizerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TokenizerError::Gguf(e) => Some(e),
            _ => None,
        }
    }
}

impl From<GgufError> for TokenizerError {
    fn from(e: GgufError) -> Self {
        TokenizerError::Gguf(e)
    }
}

impl Tokenizer {
    /// Builds the tokenizer from the vocabulary and merges in a model file whose embedding has `rows` rows.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file has no tokenizer, another kind, or a damaged one.
    pub fn from_gguf(gguf: &Gguf<'_>, rows: usize) -> Result<Tokenizer, TokenizerError> {
        let (model, pre) = (gguf.string(keys::MODEL)?, gguf.string(keys::PRE)?);
        if (model, pre) != ("gpt2", "qwen2") {
            return Err(TokenizerError::Kind(short(&format!("{model}, {pre}"))));
        }
        let tokens = gguf.array(keys::TOKENS)?.len() as usize;
        if tokens > rows {
            return Err(TokenizerError::TooManyTokens { tokens, rows });
        }
        let mut ids: HashMap<&str, u32> = HashMap::new();
        fallibly(|| ids.try_reserve(tokens)).map_err(|_| TokenizerError::Memory)?;
        ids.extend(gguf.strings(keys::TOKENS)?.zip(0..));
        let id = |token: &str| ids.get(token).copied();
        let types = gguf.array(keys::TOKEN_TYPE)?.iter().map(|kind| kind.as_u32().unwrap_or(0));
        let added = gguf.strings(keys::TOKENS)?.zip(types);
        let added: Vec<&str> = added
            .filter(|(token, kind)| MATCHED_FIRST.contains(kind) && !token.is_empty())
            .map(|(token, _)| token)
            .collect();
        if added.iter().map(|token| token.len()).sum::<usize>() > MAX_ADDED_BYTES {
            return Err(TokenizerError::Search);
        }
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&added);
        Ok(Tokenizer {
            bytes: std::array::from_fn(|byte| id(stand_in(byte as u8).encode_utf8(&mut [0; 4]))),
            merges: merges(gguf, &ids)?,
            added: search.map_err(|_| TokenizerError::Search)?,
            added_ids: added.into_iter().filter_map(id).collect(),
            pad: id(PAD).or_else(|| gguf.u32(keys::PADDING).ok()).ok_or(TokenizerError::NoPadding)?,
            tokens,
        })
    }

    /// Tokenizes a text, without a chat template.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let (mut ids, mut done) = (Vec::new(), 0);
        for found in self.added.find_iter(text) {
            self.encode_words(&text[done..found.start()], &mut ids);
            ids.push(self.added_ids[found.pattern().as_usize()]);
            done = found.end();
        }
        self.encode_words(&text[done..], &mut ids);
        ids
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) {
        let text: String = text.nfc().collect();
        for word in words::of(&text) {
            let first = ids.len();
            ids.extend(word.bytes().filter_map(|byte| self.bytes[usize::from(byte)]));
            self.merge(ids, first);
        }
    }

    /// Merges the tokens from `first` on: always the neighbours that come first in the table, the leftmost of them.
    fn merge(&self, ids: &mut Vec<u32>, first: usize) {
        /// Marks a token that became part of the one before it.
        const GONE: u32 = u32::MAX;
        let word = &mut ids[first..];
        let mut next: Vec<usize> = (1..=word.len()).collect();
        let mut previous: Vec<Option<usize>> = (0..word.len()).map(|i| i.checked_sub(1)).collect();
        // Ordered from last to first: rank, then place.
        let mut queue = BinaryHeap::new();
        let candidate = |word: &[u32], left: usize, right: usize| {
            let &(rank, id) = self.merges.get(&(*word.get(left)?, *word.get(right)?))?;
            Some(std::cmp::Reverse((rank, left, id)))
        };
        queue.extend((1..word.len()).filter_map(|right| candidate(word, right - 1, right)));
        while let Some(std::cmp::Reverse((_, left, id))) = queue.pop() {
            // What was queued may have been merged with another since.
            let right = next[left];
            let current = candidate(word, left, right);
            if word[left] == GONE || current.is_none_or(|std::cmp::Reverse((_, _, now))| now != id) {
                continue;
            }
            (word[left], word[right]) = (id, GONE);
            next[left] = next[right];
            if let Some(previous) = previous.get_mut(next[left]) {
                *previous = Some(left);
            }
            queue.extend(previous[left].and_then(|before| candidate(word, before, left)));
            queue.extend(candidate(word, left, next[left]));
        }
        let mut kept = first;
        for i in first..ids.len() {
            if ids[i] != GONE {
                ids[kept] = ids[i];
                kept += 1;
            }
        }
        ids.truncate(kept);
    }

    /// The padding token.
    pub const fn pad(&self) -> u32 {
        self.pad
    }

    /// Number of tokens of the vocabulary.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }
}

/// The merges of a file in the order of their ranks.
fn merges(gguf: &Gguf<'_>, ids: &HashMap<&str, u32>) -> Result<Merges, TokenizerError> {
    let mut whole = String::new();
    let pair = |(merge, rank): (&str, u32)| {
        // The first character may be a space's own stand-in, never a space.
        let pair = merge.split_once(' ').and_then(|(left, right)| {
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            Some(((*ids.get(left)?, *ids.get(right)?), (rank, *ids.get(whole.as_str())?)))
        });
        pair.ok_or_else(|| TokenizerError::Merge(short(merge)))
    };
    let mut merges = HashMap::new();
    let count = gguf.array(keys::MERGES)?.len() as usize;
    fallibly(|| merges.try_reserve(count)).map_err(|_| TokenizerError::Memory)?;
    for pair in gguf.strings(keys::MERGES)?.zip(0..).map(pair) {
        let (pair, merged) = pair?;
        merges.insert(pair, merged);
    }
    Ok(merges)
}

/// What stands for a byte in the vocabulary: itself where it is a visible character of Latin-1, or else the next free
/// character from U+0100 on, as in GPT-2.
fn stand_in(byte: u8) -> char {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if visible(byte) {
        return byte.into();
    }
    let earlier = (0..byte).filter(|&byte| !visible(byte)).count();
    char::from_u32(0x100 + earlier as u32).unwrap_or_default()
}

/// The start of a text from a file, for a message.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
