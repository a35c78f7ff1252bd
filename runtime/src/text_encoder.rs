use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use denoir_core::backend::{ModelFile, TapFn, Tapped};
use denoir_core::cpu::Cpu;
use denoir_core::gguf::{Gguf, Name, keys};
#[cfg(doc)]
use denoir_core::qwen3::EncodeError;
use denoir_core::qwen3::{Encoder, Matrix, Qwen3Model, Qwen3Plan, prompt_embeds};
use denoir_core::{ModelError, Precision};

use crate::bytes::zeros;
use crate::file::Reader;
use crate::network::boxed;
use crate::reserve::Watch;
use crate::system::available_threads;
use crate::{AlignedBytes, Error, Isa, Loading, MappedFile, Options, Pool, PromptEmbeds, Tokenizer};

/// An open, checked text encoder: Qwen3 as published for llama.cpp, or converted from its folder.
///
/// If the file is mapped, the pages of each matrix are released after use; otherwise all of it is in memory. Each call
/// allocates the memory for encoding and frees it at its end. Drop the encoder before drawing; peak memory is then that
/// of the larger model, not the sum of both.
pub struct TextEncoder {
    file: Box<dyn ModelFile>,
    model: Box<Qwen3Model>,
    tokenizer: Tokenizer,
    cancel: Option<Arc<AtomicBool>>,
}

/// Longest prompt in bytes. What lies behind the tokens that a network reads is cut off anyway.
const MAX_PROMPT_BYTES: usize = 1 << 20;

/// A prompt and a negative prompt, encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPrompt {
    /// `(text tokens, text width)` of [`AnyNetwork::text_size`](crate::AnyNetwork::text_size).
    pub prompt: Vec<f32>,
    /// The negative prompt's embedding, `(text tokens, text width)`.
    pub negative: Vec<f32>,
}

impl EncodedPrompt {
    /// The condition for `images` images of this prompt.
    pub fn embeds(&self, images: usize) -> PromptEmbeds<'_> {
        PromptEmbeds { prompt: &self.prompt, negative: &self.negative, images }
    }
}

/// The last hidden states of some prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenStates {
    /// `(prompts, tokens, width)`.
    pub values: Vec<f32>,
    /// Number of tokens per prompt, padding included.
    pub tokens: usize,
    /// Width of the encoder.
    pub width: usize,
}

impl TextEncoder {
    /// Reads a text encoder's file: [`TextEncoder::load`] with [`Loading::Read`].
    ///
    /// # Errors
    /// As [`TextEncoder::load`].
    pub fn open(path: impl AsRef<Path>) -> Result<TextEncoder, Error> {
        TextEncoder::load(path, Loading::Read)
    }

    /// Opens a text encoder's file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Model`] if it is not a `qwen3` model, [`Error::Tokenizer`] if
    /// it has no tokenizer, [`Error::Memory`] if it does not fit.
    pub fn load(path: impl AsRef<Path>, loading: Loading) -> Result<TextEncoder, Error> {
        let (path, watch) = (path.as_ref(), Watch::start());
        let file: Box<dyn ModelFile> = match loading {
            Loading::Read => Box::new(Reader::open(path)?.whole()?),
            Loading::Map => Box::new(MappedFile::open(path)?),
        };
        let failed = |e: ModelError| Error::Model(Some(path.to_owned()), e);
        let gguf = Gguf::parse(file.bytes()).map_err(|e| failed(e.into()))?;
        let architecture = gguf.string(keys::ARCHITECTURE).map_err(|e| failed(e.into()))?;
        if architecture != keys::ARCH_QWEN3 {
            let name: Name = architecture.chars().take(16).filter(char::is_ascii).collect();
            return Err(failed(ModelError::NoTextEncoder(name)));
        }
        let model = boxed(&gguf, Qwen3Model::read_into).map_err(failed)?;
        let tokenizer = Tokenizer::from_gguf(&gguf, model.config.vocabulary);
        let tokenizer = tokenizer.map_err(|e| Error::Tokenizer(path.to_owned(), e))?;
        watch.check()?;
        Ok(TextEncoder { model, tokenizer, file, cancel: None })
    }

    /// Once another thread sets the flag, encoding ends with [`EncodeError::Cancelled`] after the layer that it is in.
    pub fn with_cancel(self, flag: Arc<AtomicBool>) -> TextEncoder {
        TextEncoder { cancel: Some(flag), ..self }
    }

    /// The network's sizes and weights.
    pub fn model(&self) -> &Qwen3Model {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    /// Computes the last hidden states of prompts, each cut or padded to `tokens`. Only the threads and instruction set
    /// of `options` apply, because the encoder runs on the processor.
    ///
    /// # Errors
    /// [`Error`] if memory or threads cannot be allocated, [`Error::Condition`] for a prompt of more than 1 MiB.
    pub fn encode(&self, prompts: &[&str], tokens: usize, options: &Options) -> Result<HiddenStates, Error> {
        self.encode_with(prompts, tokens, options, None)
    }

    /// Like [`TextEncoder::encode`], but also shows every intermediate tensor to `tap`.
    ///
    /// # Errors
    /// As [`TextEncoder::encode`].
    pub fn encode_with(
        &self,
        prompts: &[&str],
        tokens: usize,
        options: &Options,
        tap: Option<&mut TapFn<'_>>,
    ) -> Result<HiddenStates, Error> {
        if prompts.iter().any(|prompt| prompt.len() > MAX_PROMPT_BYTES) {
            return Err(Error::Condition("a prompt may have up to 1 MiB of text"));
        }
        let watch = Watch::start();
        let cut = |prompt: &&str| {
            let mut ids = self.tokenizer.encode(prompt);
            ids.truncate(tokens);
            ids
        };
        let ids: Vec<Vec<u32>> = prompts.iter().map(cut).collect();
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let plan = Qwen3Plan::new(&self.model, prompts.len(), tokens, Precision::WIDE)?;
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes)?;
        let pool = Pool::new(options.threads.unwrap_or_else(available_threads)).map_err(Error::Threads)?;
        let inputs = self.model.matrices().filter_map(Matrix::plain).map(|weight| Precision::WIDE.input_of(weight));
        let isa = options.isa.unwrap_or_else(|| Isa::detect_for(inputs));
        let misaligned = |_| Error::Model(None, ModelError::MisalignedFile);
        let cpu = Cpu::new(self.file.bytes(), arena.as_mut_slice(), &pool, isa).map_err(misaligned)?;
        let cpu = cpu.with_file(&*self.file);
        let mut scratch = AlignedBytes::zeroed(if tap.is_some() { plan.arena_bytes } else { 0 })?;
        let cpu = Tapped::new(cpu, tap, scratch.as_mut_slice());
        let mut encoder = Encoder::new(&self.model, plan, cpu).map_err(|e| Error::Encode(e.into()))?;
        let width = self.model.config.hidden;
        let mut values = zeros(plan.rows() * width)?;
        let stop = || self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        encoder.encode(&ids, self.tokenizer.pad(), &mut values, &stop).map_err(Error::Encode)?;
        watch.check()?;
        Ok(HiddenStates { values, tokens, width })
    }

    /// Encodes a prompt and a negative prompt for a text-to-image network of this text size
    /// ([`AnyNetwork::text_size`](crate::AnyNetwork::text_size)).
    ///
    /// # Errors
    /// As [`TextEncoder::encode`].
    pub fn encode_prompt(
        &self,
        prompt: &str,
        negative: &str,
        (tokens, width): (usize, usize),
        options: &Options,
    ) -> Result<EncodedPrompt, Error> {
        let hidden = self.encode(&[prompt, negative], tokens, options)?;
        let (first, second) = hidden.values.split_at(tokens * hidden.width);
        let embeds = |hidden_states: &[f32]| -> Result<Vec<f32>, Error> {
            let mut embeds = zeros(tokens.saturating_mul(width))?;
            prompt_embeds(hidden_states, hidden.width, &mut embeds, width);
            Ok(embeds)
        };
        Ok(EncodedPrompt { prompt: embeds(first)?, negative: embeds(second)? })
    }
}

impl std::fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextEncoder({:?})", self.model.config)
    }
}
