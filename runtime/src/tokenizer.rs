use denoir_core::gguf::{Gguf, GgufError, keys::tokenizer as keys};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// The padding token.
const PAD: &str = "<|endoftext|>";
/// Types of tokens that are matched before the text is split into words: control and user-defined.
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

/// The byte-level BPE tokenizer of Qwen's models.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad: u32,
}

/// Why a tokenizer could not be built or a text not tokenized.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The model file lacks part of the tokenizer.
    Gguf(GgufError),
    /// The file has another kind of tokenizer.
    Kind(String),
    /// The padding token is missing.
    NoPadding,
    /// The tokenizer library reported this error.
    Library(tokenizers::Error),
}

impl std::fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenizerError::Gguf(e) => e.fmt(f),
            TokenizerError::Kind(kind) => write!(f, "a tokenizer of kind {kind:?}; denoir has Qwen's, gpt2 and qwen2"),
            TokenizerError::NoPadding => write!(f, "the tokenizer has no {PAD}"),
            TokenizerError::Library(e) => write!(f, "the tokenizer: {e}"),
        }
    }
}

impl std::error::Error for TokenizerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TokenizerError::Gguf(e) => Some(e),
            TokenizerError::Library(e) => Some(&**e),
            TokenizerError::Kind(_) | TokenizerError::NoPadding => None,
        }
    }
}

impl From<GgufError> for TokenizerError {
    fn from(e: GgufError) -> Self {
        TokenizerError::Gguf(e)
    }
}

impl From<tokenizers::Error> for TokenizerError {
    fn from(e: tokenizers::Error) -> Self {
        TokenizerError::Library(e)
    }
}

impl Tokenizer {
    /// Builds the tokenizer from the contents of a `tokenizer.json`. Its truncation and padding are ignored, because
    /// the length of a text depends on the network that draws from it.
    ///
    /// # Errors
    /// [`TokenizerError`] if the contents are not a tokenizer, or lack `<|endoftext|>`.
    pub fn from_json(json: &[u8]) -> Result<Tokenizer, TokenizerError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
        inner.with_padding(None);
        inner.with_truncation(None)?;
        Tokenizer::padded(inner, None)
    }

    /// Builds the tokenizer from the vocabulary and merges in a model file.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file has no tokenizer or another kind.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Tokenizer, TokenizerError> {
        let (model, pre) = (gguf.string(keys::MODEL)?, gguf.string(keys::PRE)?);
        if (model, pre) != ("gpt2", "qwen2") {
            return Err(TokenizerError::Kind(format!("{model}, {pre}").chars().take(64).collect()));
        }
        let tokens: Vec<&str> = gguf.strings(keys::TOKENS)?.collect();
        let vocabulary: Vec<(String, u32)> =
            tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), id)).collect();
        let merges = gguf.strings(keys::MERGES)?.filter_map(|merge| {
            // The first character may be a space's own stand-in, never a space.
            let (left, right) = merge.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        });
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges.collect())
            .build()?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_normalizer(Some(NFC));
        let split =
            Split::new(SplitPattern::Regex(keys::QWEN2_SPLIT.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
        let bytes = ByteLevel::new(false, false, false);
        inner.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])));
        let types = gguf.array(keys::TOKEN_TYPE)?;
        let types = types.iter().map(|kind| kind.as_u32().unwrap_or(0));
        for (token, kind) in tokens.iter().zip(types).filter(|(_, kind)| [CONTROL, USER_DEFINED].contains(kind)) {
            let token = AddedToken::from(*token, kind == CONTROL).normalized(false);
            if kind == CONTROL {
                inner.add_special_tokens(&[token])
            } else {
                inner.add_tokens(&[token])
            };
        }
        Tokenizer::padded(inner, gguf.u32(keys::PADDING).ok())
    }

    fn padded(inner: tokenizers::Tokenizer, otherwise: Option<u32>) -> Result<Tokenizer, TokenizerError> {
        let pad = inner.token_to_id(PAD).or(otherwise).ok_or(TokenizerError::NoPadding)?;
        Ok(Tokenizer { inner, pad })
    }

    /// Tokenizes a text, without a chat template.
    ///
    /// # Errors
    /// [`TokenizerError::Library`] if the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, true)?.get_ids().to_vec())
    }

    /// The padding token.
    pub const fn pad(&self) -> u32 {
        self.pad
    }
}
