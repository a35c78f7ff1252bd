//! Converts `tokenizer.json` to the arrays that llama.cpp reads.

use denoir_core::gguf::keys::tokenizer as keys;
use serde_json::Value;

use crate::error::ConvertError;
use crate::writer::Metadata;

/// Token types of ggml.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// A byte-level BPE vocabulary.
pub(super) struct Vocabulary {
    /// In the order of their numbers; gaps are filled.
    tokens: Vec<String>,
    types: Vec<i32>,
    /// Two tokens with a space between.
    merges: Vec<String>,
}

impl Vocabulary {
    /// Reads a `tokenizer.json` for an embedding of `rows` tokens.
    pub(super) fn read(json: &[u8], rows: u32) -> Result<Vocabulary, ConvertError> {
        let refuse = |reason: &str| ConvertError::text_encoder("tokenizer.json", reason.into());
        let root: Value = serde_json::from_slice(json).map_err(|e| refuse(&e.to_string()))?;
        let model = root.get("model").ok_or_else(|| refuse("no model"))?;
        if model.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "BPE") || !splits_as_qwen2(&root) {
            return Err(refuse("not Qwen's byte-level BPE, which a qwen3 file is for"));
        }
        if model.get("ignore_merges").and_then(Value::as_bool) == Some(true) {
            return Err(refuse("ignore_merges, which Qwen's tokenizer does not set"));
        }
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        let mut types = vec![UNUSED; tokens.len()];
        let mut put = |token: &str, id: Option<u64>, kind: i32| {
            let slot = id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < tokens.len());
            let slot = slot.ok_or_else(|| refuse("a token's number is beyond the embedding"))?;
            tokens[slot] = token.to_owned();
            types[slot] = kind;
            Ok::<_, ConvertError>(())
        };
        let vocab = model.get("vocab").and_then(Value::as_object).ok_or_else(|| refuse("no vocabulary"))?;
        for (token, id) in vocab {
            put(token, id.as_u64(), NORMAL)?;
        }
        for added in root.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let content = added.get("content").and_then(Value::as_str).ok_or_else(|| refuse("an unnamed token"))?;
            let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
            put(content, added.get("id").and_then(Value::as_u64), if special { CONTROL } else { USER_DEFINED })?;
        }
        let merges = model.get("merges").and_then(Value::as_array).ok_or_else(|| refuse("no merges"))?;
        let merges = merges.iter().map(merge).collect::<Option<_>>().ok_or_else(|| refuse("a damaged merge"))?;
        Ok(Vocabulary { tokens, types, merges })
    }

    pub(super) fn describe(&self, metadata: &mut Metadata) {
        metadata.string(keys::MODEL, "gpt2");
        metadata.string(keys::PRE, "qwen2");
        metadata.strings(keys::TOKENS, &self.tokens);
        metadata.i32s(keys::TOKEN_TYPE, &self.types);
        metadata.strings(keys::MERGES, &self.merges);
        let id = |token: &str| self.tokens.iter().position(|t| t == token);
        for (key, token) in [(keys::EOS, "<|im_end|>"), (keys::PADDING, "<|endoftext|>")] {
            if let Some(id) = id(token) {
                metadata.u32(key, id as u32);
            }
        }
    }
}

/// One merge, written as a string or as a pair.
fn merge(value: &Value) -> Option<String> {
    match value {
        Value::String(merge) => merge.split_once(' ').map(|_| merge.clone()),
        Value::Array(pair) => match pair.as_slice() {
            [left, right] => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether text is split into words as in Qwen2.
fn splits_as_qwen2(root: &Value) -> bool {
    let steps = root.pointer("/pre_tokenizer/pretokenizers").and_then(Value::as_array);
    let split = |step: &Value| step.pointer("/pattern/Regex").and_then(Value::as_str) == Some(keys::QWEN2_SPLIT);
    steps.is_some_and(|steps| steps.iter().any(split))
        && root.pointer("/normalizer/type").and_then(Value::as_str) == Some("NFC")
}
