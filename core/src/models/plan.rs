//! Plans: the positions of activations in one arena, which is allocated from its start.

use crate::models::params::BlockParams;
use crate::ops::{HISTORY, SharedMean, StepValues};
use crate::tensor::Precision;
use crate::{DType, Modulation, Region, TokenLayout, View};

/// Maximum number of images in a batch; with both guidance branches a pass has twice as many.
pub const MAX_BATCH: usize = 32;
/// Width of the sinusoidal timestep embedding.
pub const TIMESTEP_WIDTH: usize = 256;
/// Maximum rows of the modulation table where weights are at hand: a linear layer gains nothing from more.
const TABLE_ROWS: usize = 64;
/// Maximum time points and bytes of the modulation table where weights are streamed: those of upstream's samplers, in a
/// table that every device takes as one tensor.
const STREAMED_TIMES: usize = 64;
const STREAMED_BYTES: usize = 128 << 20;
/// Alignment of every view: a cache line, and enough for a GPU's storage buffer offsets.
const ALIGN: usize = 256;
/// Rows of activations are padded to this many elements, so that int8 kernels read whole vectors.
const ROW_ALIGN: usize = 64;
/// f32 in a page of memory.
const PAGE_F32: usize = 1024;

/// Errors of planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The batch is empty or larger than [`MAX_BATCH`].
    Batch(usize),
    /// There are no prompts or tokens, or more than a text encoder accepts.
    Text {
        /// Number of prompts to encode together.
        prompts: usize,
        /// Number of tokens per prompt.
        tokens: usize,
    },
    /// The activations do not fit the address space.
    TooLarge,
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PlanError::Batch(n) => write!(f, "a batch of {n} images: it must be 1 to {MAX_BATCH}"),
            PlanError::Text { prompts, tokens } => write!(f, "{prompts} prompts of {tokens} tokens cannot be encoded"),
            PlanError::TooLarge => f.write_str("the activations do not fit the address space"),
        }
    }
}

impl core::error::Error for PlanError {}

/// The sampler's buffers, which are the same for every network.
#[derive(Clone, Copy, Debug)]
pub struct Trajectory {
    /// Images per batch.
    pub batch: usize,
    /// `(batch, pixels)` f32: the trajectory.
    pub x: View,
    /// `(batch, pixels)` f32: the network's input.
    pub x_eval: View,
    /// `(2 · batch, pixels)` f32: predicted clean images, the null branch in the second half.
    pub x_hat: View,
    /// `(HISTORY · batch, pixels)` f32.
    pub velocity: View,
    /// `(1, 11)` u32: [`StepValues`].
    pub step: View,
}

impl Trajectory {
    pub(crate) fn new(a: &mut Bump, batch: usize, pixels: usize) -> Result<Trajectory, PlanError> {
        if batch == 0 || batch > MAX_BATCH {
            return Err(PlanError::Batch(batch));
        }
        Ok(Trajectory {
            batch,
            x: a.f32(batch, pixels)?,
            x_eval: a.f32(batch, pixels)?,
            x_hat: a.f32(2 * batch, pixels)?,
            velocity: a.f32(HISTORY * batch, pixels)?,
            step: a.u32(size_of::<StepValues>() / 4)?,
        })
    }

    /// The same buffers for the first `images` images of the batch.
    pub const fn of_images(&self, images: usize) -> Trajectory {
        Trajectory {
            batch: images,
            x: self.x.rows_from(0, images),
            x_eval: self.x_eval.rows_from(0, images),
            velocity: self.velocity.rows_from(0, HISTORY * images),
            ..*self
        }
    }
}

/// The modulation vectors of a chunk of time points, and the tensors they are computed from.
#[derive(Clone, Copy, Debug)]
pub struct ModulationPlan {
    /// Time points per chunk.
    pub chunk_times: usize,
    /// `(1, 2 · batch)` u32: the table row of each image.
    pub rows: View,
    /// `(chunk times, 256)` f32: sinusoids.
    pub t_wave: View,
    /// `(chunk times, hidden)` f32.
    pub t_hidden: View,
    /// `(chunk times, hidden)` f32.
    pub t_emb: View,
    /// `(chunk times · variants, hidden)` f32: the conditioning vectors.
    pub condition: View,
    /// `(chunk times · variants, width)` f32: adaLN outputs of every block.
    pub table: View,
}

impl ModulationPlan {
    /// Plans a table with `width` columns and `variants` rows per time point, for as many time points as fit `bytes`,
    /// or a larger one if weights are streamed.
    pub(crate) fn new(
        a: &mut Bump,
        batch: usize,
        hidden: usize,
        width: usize,
        variants: usize,
        bytes: usize,
        precision: Precision,
    ) -> Result<ModulationPlan, PlanError> {
        let per_time = width.saturating_mul(4).saturating_mul(variants);
        let (bytes, times) = match precision.streamed {
            true => (STREAMED_BYTES, STREAMED_TIMES),
            false => (bytes, TABLE_ROWS / variants),
        };
        let chunk_times = (bytes / per_time).min(times).max(1);
        Ok(ModulationPlan {
            chunk_times,
            rows: a.u32(2 * batch)?,
            t_wave: a.f32(chunk_times, TIMESTEP_WIDTH)?,
            t_hidden: a.f32(chunk_times, hidden)?,
            t_emb: a.f32(chunk_times, hidden)?,
            condition: a.f32(chunk_times * variants, hidden)?,
            table: a.f32(chunk_times * variants, width)?,
        })
    }

    /// The vectors of a pass over `images` images.
    pub const fn of_images(&self, images: usize) -> Modulation {
        Modulation { table: self.table, rows: self.rows.cols_from(0, images) }
    }
}

/// The buffers of a transformer block.
#[derive(Clone, Copy, Debug)]
pub struct BlockPlan {
    /// `(rows, hidden)`, padded: input of the linear layers. Its type is chosen at each use.
    pub z: View,
    /// `(1, rows)` f32: scales of an int8 `z`.
    pub z_scale: View,
    /// The shared mean of an int8 `z`, if the backend prefers centred activations.
    pub shared_mean: Option<SharedMean>,
    /// `(rows, 3 · hidden)` f32.
    pub qkv: View,
    /// `(rows, 3 · hidden)` bf16: what attention reads, if the backend prefers that and all blocks allow it.
    pub rounded_qkv: Option<View>,
    /// `(rows, hidden)` f32: attention's output if the next layer is int8.
    pub attended: View,
    /// `(rows, 2 · ffn_hidden)` f32: the factors of SwiGLU; or its output, `(rows, ffn_hidden)`, if it is fused.
    pub ffn: View,
    /// `(rows, ffn_hidden)`, padded: input of the FFN's last layer. Its type is chosen at each use.
    pub ffn_z: View,
    /// `(1, rows)` f32: scales of an int8 `ffn_z`.
    pub ffn_scale: View,
    /// Columns of the widest input of an int8 layer; 0 if there is none.
    pub int8_width: usize,
}

/// Rows and columns of a [`BlockPlan`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSizes {
    /// Number of images of a pass, or of texts if there are more.
    pub(crate) images: usize,
    /// Rows of the residual stream.
    pub(crate) rows: usize,
    /// Rows of `qkv`: those of the residual stream, plus rows for keys from elsewhere.
    pub(crate) key_rows: usize,
    pub(crate) hidden: usize,
    pub(crate) ffn_hidden: usize,
}

impl BlockPlan {
    /// Plans the blocks' buffers. Buffers with disjoint lifetimes share bytes: those of attention and of the
    /// feed-forward network. Buffers that the network needs before and after its blocks may start at the second result
    /// too.
    pub(crate) fn new<'m>(
        a: &mut Bump,
        sizes: BlockSizes,
        precision: Precision,
        blocks: impl Iterator<Item = &'m BlockParams> + Clone,
    ) -> Result<(BlockPlan, usize), PlanError> {
        let BlockSizes { images, rows, key_rows, hidden: h, ffn_hidden } = sizes;
        let z_size = precision.widest(blocks.clone().flat_map(|b| [&b.qkv.weight, &b.proj.weight, &b.w12.both.weight]));
        let ffn_size = precision.widest(blocks.clone().map(|b| &b.w3.weight));
        let z = a.padded(rows, h, z_size)?;
        let z_scale = a.f32(1, rows)?;
        let is_int8 = |b: &BlockParams| [&b.qkv, &b.proj, &b.w12.both].iter().any(|layer| layer.weight.scale.is_some());
        let shared_mean = match precision.centred && blocks.clone().any(is_int8) {
            true => Some(SharedMean {
                row: a.padded(images, h, 1)?,
                scale: a.f32(1, images)?,
                value: a.f32(images, h)?,
                layout: TokenLayout { images, image_tokens: 0, context_tokens: 0 },
            }),
            false => None,
        };
        let ffn_z = a.padded(rows, ffn_hidden, ffn_size)?;
        let ffn_scale = a.f32(1, rows)?;
        let shared = a.position();
        let qkv = a.f32(key_rows, 3 * h)?;
        let int8_width = match (blocks.clone().any(|b| b.w3.weight.scale.is_some()), blocks.clone().any(is_int8)) {
            (true, _) => h.max(ffn_hidden),
            (false, true) => h,
            (false, false) => 0,
        };
        let rounded_qkv = match attention_type(precision, blocks) {
            DType::F32 => None,
            rounded => Some(a.matrix(rounded, key_rows, 3 * h)?),
        };
        let attended = a.f32(rows, h)?;
        a.restart(shared);
        let ffn = a.f32(rows, if precision.fused_swiglu { ffn_hidden } else { 2 * ffn_hidden })?;
        a.restart(shared);
        Ok((
            BlockPlan { z, z_scale, shared_mean, qkv, rounded_qkv, attended, ffn, ffn_z, ffn_scale, int8_width },
            shared,
        ))
    }
}

impl BlockPlan {
    /// The queries, keys and values that attention reads.
    pub fn attention_input(&self) -> View {
        self.rounded_qkv.unwrap_or(self.qkv)
    }
}

/// The type of the queries, keys and values that attention reads in these blocks.
pub(crate) fn attention_type<'m>(precision: Precision, mut blocks: impl Iterator<Item = &'m BlockParams>) -> DType {
    let may_round = |b: &BlockParams| precision.attention_before(&b.proj.weight) == DType::BF16;
    if precision.rounded_qkv && blocks.all(may_round) { DType::BF16 } else { DType::F32 }
}

/// The first `rows` rows of a padded buffer in this type, with scales for int8.
pub(crate) fn typed(buffer: View, scale: View, dtype: DType, rows: usize) -> (View, Option<View>) {
    let view = View { dtype, ..buffer }.rows_from(0, rows);
    (view, (dtype == DType::I8).then(|| scale.cols_from(0, rows)))
}

/// Allocates the arena from its start.
#[derive(Default)]
pub(crate) struct Bump {
    end: usize,
    /// The maximum of `end` so far.
    most: usize,
}

impl Bump {
    fn take(&mut self, bytes: Option<usize>) -> Result<usize, PlanError> {
        let start = self.end;
        let end = bytes.and_then(|n| start.checked_add(n)).and_then(|n| n.checked_next_multiple_of(ALIGN));
        self.end = end.filter(|&n| isize::try_from(n).is_ok()).ok_or(PlanError::TooLarge)?;
        self.most = self.most.max(self.end);
        Ok(start)
    }

    pub(crate) fn matrix(&mut self, dtype: DType, rows: usize, cols: usize) -> Result<View, PlanError> {
        let offset = self.take(rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.size())))?;
        Ok(View::dense(Region::Arena, dtype, offset, rows, cols))
    }

    pub(crate) fn f32(&mut self, rows: usize, cols: usize) -> Result<View, PlanError> {
        self.matrix(DType::F32, rows, cols)
    }

    pub(crate) fn u32(&mut self, cols: usize) -> Result<View, PlanError> {
        self.matrix(DType::U32, 1, cols)
    }

    /// Allocates rows padded to [`ROW_ALIGN`] elements of `size` bytes; the view is typed at each use. Rows a whole
    /// number of pages apart would compete for a few cache sets, so those get extra padding.
    pub(crate) fn padded(&mut self, rows: usize, cols: usize, size: usize) -> Result<View, PlanError> {
        let stride = cols.next_multiple_of(ROW_ALIGN);
        let stride = if stride.is_multiple_of(PAGE_F32) { stride + ROW_ALIGN } else { stride };
        let offset = self.take(rows.checked_mul(stride).and_then(|n| n.checked_mul(size)))?;
        Ok(View { stride, ..View::dense(Region::Arena, DType::I8, offset, rows, cols) })
    }

    /// The offset of the next buffer.
    pub(crate) const fn position(&self) -> usize {
        self.end
    }

    /// Rewinds to `start`, for buffers that live at another time.
    pub(crate) const fn restart(&mut self, start: usize) {
        self.end = start;
    }

    /// Size in bytes of an arena for all buffers.
    pub(crate) const fn bytes(&self) -> usize {
        self.most
    }
}
