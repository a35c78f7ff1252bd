use half::bf16;

use super::forward::{forward, parts};
use super::{Qwen3Model, Qwen3Plan};
use crate::backend::{Backend, OpError, Program, run};
use crate::ops::MAX_HEAD_DIM;

/// Errors of encoding prompts. `E` is the backend's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError<E> {
    /// The number of prompts differs from the plan's, or a prompt has too many tokens.
    Prompts,
    /// A token is not in the vocabulary.
    Token {
        /// The token.
        id: u32,
        /// Number of tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The output slice does not have the length of the hidden states.
    Output {
        /// Given number of values.
        len: usize,
        /// Required number of values.
        needed: usize,
    },
    /// The result contains an infinity or NaN: the weights are damaged or overflow their type.
    NotFinite,
    /// The caller asked to stop.
    Cancelled,
    /// A kernel failed.
    Op(OpError<E>),
}

impl<E> From<OpError<E>> for EncodeError<E> {
    fn from(e: OpError<E>) -> Self {
        EncodeError::Op(e)
    }
}

impl<E: core::fmt::Display> core::fmt::Display for EncodeError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            EncodeError::Prompts => f.write_str("more prompts or tokens than were planned for"),
            EncodeError::Token { id, vocabulary } => {
                write!(f, "token {id} does not exist: the text encoder's vocabulary has {vocabulary}")
            }
            EncodeError::Output { len, needed } => {
                write!(f, "the output holds {len} values, the hidden states need {needed}")
            }
            EncodeError::NotFinite => {
                f.write_str("the embedding is not finite: the weights are damaged or overflow their type")
            }
            EncodeError::Cancelled => f.write_str("cancelled"),
            EncodeError::Op(e) => e.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for EncodeError<E> {}

/// A text encoder with its activations on a backend.
#[derive(Debug)]
pub struct Encoder<'m, B> {
    model: &'m Qwen3Model,
    plan: Qwen3Plan,
    backend: B,
}

impl<'m, B: Backend> Encoder<'m, B> {
    /// Takes a backend whose regions hold the model file and [`Qwen3Plan::arena_bytes`].
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn new(model: &'m Qwen3Model, plan: Qwen3Plan, backend: B) -> Result<Self, OpError<B::Error>> {
        let mut encoder = Encoder { model, plan, backend };
        encoder.write_rope()?;
        Ok(encoder)
    }

    /// Writes the last hidden states of `prompts`, one list of tokens for each of the plan's prompts, to `hidden`,
    /// `(prompts, tokens, hidden)`. Prompts are padded on the right with `pad`. No token attends to padding, but
    /// padding tokens have hidden states too, and a network may read them. `stop` is asked before each layer.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode(
        &mut self,
        prompts: &[&[u32]],
        pad: u32,
        hidden: &mut [f32],
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EncodeError<B::Error>> {
        let (plan, c) = (self.plan, &self.model.config);
        if prompts.len() != plan.prompts || prompts.iter().any(|ids| ids.len() > plan.tokens) {
            return Err(EncodeError::Prompts);
        }
        let needed = plan.rows() * c.hidden;
        if hidden.len() != needed {
            return Err(EncodeError::Output { len: hidden.len(), needed });
        }
        let strange = |&id: &u32| id as usize >= c.vocabulary;
        if let Some(id) = prompts.iter().copied().flatten().copied().chain([pad]).find(strange) {
            return Err(EncodeError::Token { id, vocabulary: c.vocabulary });
        }
        for (i, ids) in prompts.iter().enumerate() {
            self.write_prompt(i, ids, pad)?;
        }
        let model = self.model;
        for part in parts(model.layers.len()) {
            if stop() {
                return Err(EncodeError::Cancelled);
            }
            let program = Program::once("encode", [plan.prompts, plan.tokens]);
            run(&mut self.backend, program, |k| forward(k, model, &plan, part))?;
        }
        self.backend.read(&plan.out, bytemuck::cast_slice_mut(hidden))?;
        if hidden.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(EncodeError::NotFinite) }
    }

    fn write_prompt(&mut self, prompt: usize, ids: &[u32], pad: u32) -> Result<(), OpError<B::Error>> {
        let (plan, first) = (&self.plan, prompt * self.plan.tokens);
        if !ids.is_empty() {
            self.backend.write(&plan.ids.cols_from(first, ids.len()), bytemuck::cast_slice(ids))?;
        }
        for column in first + ids.len()..first + plan.tokens {
            self.backend.write(&plan.ids.cols_from(column, 1), bytemuck::bytes_of(&pad))?;
        }
        self.backend.write(&plan.lengths.cols_from(prompt, 1), bytemuck::bytes_of(&(ids.len() as u32)))
    }

    /// Rotates pair `k` of token `i` by `i / base^(2k / head_dim)`.
    fn write_rope(&mut self) -> Result<(), OpError<B::Error>> {
        let (head_dim, base) = (self.model.config.head_dim, self.model.config.rope_base);
        for token in 0..self.plan.tokens {
            let mut waves = [0f32; MAX_HEAD_DIM];
            for (pair, wave) in waves[..head_dim].chunks_exact_mut(2).enumerate() {
                let angle = token as f64 / libm::pow(base, (2 * pair) as f64 / head_dim as f64);
                wave.copy_from_slice(&[libm::cos(angle) as f32, libm::sin(angle) as f32]);
            }
            self.backend.write(&self.plan.rope.rows_from(token, 1), bytemuck::cast_slice(&waves[..head_dim]))?;
        }
        Ok(())
    }
}

/// Converts one prompt's hidden states, `(tokens, hidden)`, to a network's input: rounds them to bfloat16, and cuts or
/// zero-pads them to its text width. Both have the same number of rows.
pub fn prompt_embeds(hidden: &[f32], hidden_width: usize, embeds: &mut [f32], width: usize) {
    for (from, to) in hidden.chunks(hidden_width.max(1)).zip(embeds.chunks_mut(width.max(1))) {
        let values = from.iter().map(|&x| bf16::from_f32(x).to_f32()).chain(core::iter::repeat(0.0));
        to.iter_mut().zip(values).for_each(|(to, x)| *to = x);
    }
}
