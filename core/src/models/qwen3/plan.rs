use super::params::Qwen3Model;
use crate::models::params::Matrix;
use crate::models::plan::{Bump, PlanError};
use crate::ops::{BLOCK, BLOCK_BYTES};
use crate::tensor::Precision;
use crate::{DType, View};

/// Maximum number of prompts that are encoded together.
const MAX_PROMPTS: usize = 64;
/// Maximum number of tokens of a prompt.
const MAX_TOKENS: usize = 4096;
/// Number of Q8_0 rows dequantised together, few enough to stay in the last-level cache.
const SLAB_ROWS: usize = 256;

/// The position of every activation in one arena. Rows are prompts times tokens.
#[derive(Clone, Copy, Debug)]
pub struct Qwen3Plan {
    /// Number of prompts encoded together.
    pub prompts: usize,
    /// Number of tokens per prompt, padding included.
    pub tokens: usize,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The activation types that the backend prefers at linear layers.
    pub precision: Precision,
    /// `(1, rows)` u32.
    pub ids: View,
    /// `(1, prompts)` u32: tokens of each before its padding.
    pub lengths: View,
    /// `(tokens, head_dim)` f32: cosine and sine alternate.
    pub rope: View,
    /// `(rows, hidden)` f32: the residual stream.
    pub x: View,
    /// `(rows, hidden)`, padded: input of linear layers. Its type is chosen at each use.
    pub z: View,
    /// `(1, rows)` f32: scales of an int8 input.
    pub scale: View,
    /// `(rows, (heads + 2 · kv_heads) · head_dim)` f32: queries, keys, values.
    pub qkv: View,
    /// `(rows, heads · head_dim)` f32: attention's output if the next layer is int8.
    pub attended: View,
    /// `(rows, heads · head_dim)`, padded: input of attention's last layer. Its type is chosen at each use.
    pub attended_z: View,
    /// `(rows, 2 · ffn_hidden)` f32.
    pub ffn: View,
    /// `(rows, ffn_hidden)`, padded: input of the FFN's last layer. Its type is chosen at each use.
    pub ffn_z: View,
    /// `(rows, hidden / 32 · 34)` bytes: embeddings of the tokens, if they are Q8_0 blocks.
    pub blocks: Option<View>,
    /// f32: dequantised rows of a Q8_0 matrix, as many as fit.
    pub slab: Option<View>,
    /// `(rows, hidden)` f32: the last hidden state after the final norm.
    pub out: View,
}

impl Qwen3Plan {
    /// Plans the activations of `prompts` prompts of `tokens` tokens each.
    ///
    /// # Errors
    /// [`PlanError`] for zero or too many prompts or tokens, or sizes beyond the address space.
    pub fn new(
        model: &Qwen3Model,
        prompts: usize,
        tokens: usize,
        precision: Precision,
    ) -> Result<Qwen3Plan, PlanError> {
        if !(1..=MAX_PROMPTS).contains(&prompts) || !(1..=MAX_TOKENS).contains(&tokens) {
            return Err(PlanError::Text { prompts, tokens });
        }
        let (c, rows) = (&model.config, prompts * tokens);
        let size = precision.widest(model.matrices().filter_map(Matrix::plain)).max(4);
        let mut a = Bump::default();
        let widest = c.hidden.max(c.q_width()).max(c.ffn_hidden);
        let has_blocks = model.matrices().any(|m| m.plain().is_none());
        let blocks = match model.embedding {
            Matrix::Blocks(_) => Some(a.matrix(DType::I8, rows, c.hidden / BLOCK * BLOCK_BYTES)?),
            Matrix::Plain(_) => None,
        };
        Ok(Qwen3Plan {
            prompts,
            tokens,
            precision,
            ids: a.u32(rows)?,
            lengths: a.u32(prompts)?,
            rope: a.f32(tokens, c.head_dim)?,
            x: a.f32(rows, c.hidden)?,
            z: a.padded(rows, c.hidden, size)?,
            scale: a.f32(1, rows)?,
            qkv: a.f32(rows, c.qkv_width())?,
            attended: a.f32(rows, c.q_width())?,
            attended_z: a.padded(rows, c.q_width(), size)?,
            ffn: a.f32(rows, 2 * c.ffn_hidden)?,
            ffn_z: a.padded(rows, c.ffn_hidden, size)?,
            blocks,
            slab: has_blocks.then(|| a.f32(SLAB_ROWS, widest)).transpose()?,
            out: a.f32(rows, c.hidden)?,
            arena_bytes: a.bytes(),
        })
    }

    /// All rows.
    pub const fn rows(&self) -> usize {
        self.prompts * self.tokens
    }
}
