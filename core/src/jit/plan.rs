use super::params::JitModel;
use super::{PatchEmbedParams, TIMESTEP_WIDTH};
use crate::ops::{HISTORY, StepValues};
use crate::{DType, Modulation, Region, TokenLayout, View, Weight};

/// Most images in a batch; with both guidance branches a pass has twice as many.
pub const MAX_BATCH: usize = 32;
/// The modulation table of one chunk of steps grows up to this size.
const TABLE_BYTES: usize = 8 << 20;
/// Rows of the table at most: a linear layer gains nothing from more.
const TABLE_ROWS: usize = 64;
/// Every view starts on a cache line, and on what GPUs want of a storage buffer's offset.
const ALIGN: usize = 256;
/// Rows of activations are padded to this many elements, so that int8 kernels read whole vectors.
const ROW_ALIGN: usize = 64;

/// The activation types that a backend wants at its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Type of the activations that meet f16 weights: f32 or f16.
    pub f16: DType,
    /// Type of the activations that meet bf16 weights: f32 or bf16.
    pub bf16: DType,
}

impl Precision {
    /// Weights are widened, activations stay f32. int8 weights always meet int8 activations.
    pub const WIDE: Precision = Precision { f16: DType::F32, bf16: DType::F32 };

    /// The type of the activations that meet this weight in a block.
    pub const fn input_of(&self, weight: &Weight) -> DType {
        match weight.data.dtype {
            DType::F16 => self.f16,
            DType::BF16 => self.bf16,
            other => other,
        }
    }
}

/// Why no plan could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The batch is empty or larger than [`MAX_BATCH`].
    Batch(usize),
    /// The activations do not fit the address space.
    TooLarge,
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PlanError::Batch(n) => write!(f, "a batch of {n} images: it must be 1 to {MAX_BATCH}"),
            PlanError::TooLarge => f.write_str("the activations do not fit the address space"),
        }
    }
}

impl core::error::Error for PlanError {}

/// Where every activation lies in one arena. Sizes are those of a guided pass: two branches of `batch` images.
///
/// Buffers whose lifetimes do not meet share bytes: attention's and the feed-forward's.
#[derive(Clone, Copy, Debug)]
pub struct JitPlan {
    /// Images per batch.
    pub batch: usize,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// What the backend wants at linear layers.
    pub precision: Precision,
    /// Time points per chunk of the modulation table.
    pub chunk_times: usize,
    /// `(batch, pixels)` f32: the trajectory.
    pub x: View,
    /// `(batch, pixels)` f32: what the network sees.
    pub x_eval: View,
    /// `(2 · batch, pixels)` f32: predicted clean images, the null branch in the second half.
    pub x_hat: View,
    /// `(HISTORY · batch, pixels)` f32.
    pub velocity: View,
    /// `(1, 11)` u32: [`StepValues`].
    pub step: View,
    /// `(1, 2 · batch)` u32: each image's row of the modulation table.
    pub modulation_rows: View,
    /// `(1, 2 · batch)` u32: each image's label.
    pub labels: View,
    /// `(1, batch + 1)` u32: the distinct labels of a chunk.
    pub chunk_labels: View,
    /// `(image tokens, head_dim)` f32: cosine and sine alternate.
    pub rope: View,
    /// `(chunk times, 256)` f32: sinusoids.
    pub t_wave: View,
    /// `(chunk times, hidden)` f32.
    pub t_hidden: View,
    /// `(chunk times, hidden)` f32.
    pub t_emb: View,
    /// `(chunk times · (batch + 1), hidden)` f32.
    pub condition: View,
    /// `(chunk times · (batch + 1), modulation width)` f32.
    pub table: View,
    /// `(rows, hidden)` f32: the residual stream.
    pub tokens: View,
    /// `(rows, hidden)`, padded: input of the linear layers. Its type is chosen at each use.
    pub z: View,
    /// `(1, rows)` f32: scales of an int8 `z`.
    pub z_scale: View,
    /// `(rows, 3 · hidden)` f32.
    pub qkv: View,
    /// `(rows, hidden)` f32: attention's output where the next layer is int8.
    pub attended: View,
    /// `(rows, 2 · ffn_hidden)` f32.
    pub ffn: View,
    /// `(rows, ffn_hidden)`, padded: input of the FFN's last layer. Its type is chosen at each use.
    pub ffn_z: View,
    /// `(1, rows)` f32: scales of an int8 `ffn_z`.
    pub ffn_scale: View,
    /// `(image rows, patch values)` f32.
    pub patches: View,
    /// `(image rows, bottleneck)` f32.
    pub bottleneck: View,
    /// `(image rows, hidden)` f32: input of the final layer, which stays f32.
    pub final_z: View,
    /// `(image rows, patch values)` f32: the final layer's output.
    pub out: View,
}

impl JitPlan {
    /// Plans the activations of `batch` images.
    ///
    /// # Errors
    /// [`PlanError`] for an unusable batch, or sizes beyond the address space.
    pub fn new(model: &JitModel, batch: usize, precision: Precision) -> Result<JitPlan, PlanError> {
        if batch == 0 || batch > MAX_BATCH {
            return Err(PlanError::Batch(batch));
        }
        let c = &model.config;
        let (h, pixels, values) = (c.hidden, c.pixels(), c.patch_values());
        let images = 2 * batch;
        let image_rows = images * c.image_tokens();
        let rows = images * (c.image_tokens() + c.context_tokens);
        let labels = batch + 1;
        let per_time = (c.modulation_width() * 4).saturating_mul(labels);
        let chunk_times = (TABLE_BYTES / per_time).min(TABLE_ROWS / labels).max(1);
        let chunk_rows = chunk_times * labels;
        let widest = |weights: &mut dyn Iterator<Item = &Weight>| {
            weights.map(|w| precision.input_of(w).size()).max().unwrap_or(4)
        };
        let z_size = widest(&mut model.blocks.iter().flat_map(|b| [&b.qkv.weight, &b.proj.weight, &b.w12.weight]));
        let ffn_size = widest(&mut model.blocks.iter().map(|b| &b.w3.weight));
        let bottleneck = match model.patch_embed {
            PatchEmbedParams::Bottleneck(..) => c.bottleneck,
            PatchEmbedParams::Direct(_) => 0,
        };

        let mut a = Bump { end: 0 };
        let x = a.f32(batch, pixels)?;
        let x_eval = a.f32(batch, pixels)?;
        let x_hat = a.f32(images, pixels)?;
        let velocity = a.f32(HISTORY * batch, pixels)?;
        let step = a.u32(size_of::<StepValues>() / 4)?;
        let modulation_rows = a.u32(images)?;
        let label_view = a.u32(images)?;
        let chunk_labels = a.u32(labels)?;
        let rope = a.f32(c.image_tokens(), c.head_dim())?;
        let t_wave = a.f32(chunk_times, TIMESTEP_WIDTH)?;
        let t_hidden = a.f32(chunk_times, h)?;
        let t_emb = a.f32(chunk_times, h)?;
        let condition = a.f32(chunk_rows, h)?;
        let table = a.f32(chunk_rows, c.modulation_width())?;
        let tokens = a.f32(rows, h)?;
        let z = a.padded(rows, h, z_size)?;
        let z_scale = a.f32(1, rows)?;
        let ffn_z = a.padded(rows, c.ffn_hidden, ffn_size)?;
        let ffn_scale = a.f32(1, rows)?;

        let shared = a.end;
        let qkv = a.f32(rows, 3 * h)?;
        let attended = a.f32(rows, h)?;
        let attention_end = a.restart(shared);
        let ffn = a.f32(rows, 2 * c.ffn_hidden)?;
        let ffn_end = a.restart(shared);
        let patches = a.f32(image_rows, values)?;
        let bottleneck = a.f32(image_rows, bottleneck)?;
        let embed_end = a.restart(shared);
        let final_z = a.f32(image_rows, h)?;
        let out = a.f32(image_rows, values)?;
        let arena_bytes = a.end.max(attention_end).max(ffn_end).max(embed_end);

        Ok(JitPlan {
            batch,
            arena_bytes,
            precision,
            chunk_times,
            x,
            x_eval,
            x_hat,
            velocity,
            step,
            modulation_rows,
            labels: label_view,
            chunk_labels,
            rope,
            t_wave,
            t_hidden,
            t_emb,
            condition,
            table,
            tokens,
            z,
            z_scale,
            qkv,
            attended,
            ffn,
            ffn_z,
            ffn_scale,
            patches,
            bottleneck,
            final_z,
            out,
        })
    }

    /// The same plan for the first `images` images of the batch.
    pub const fn of_images(&self, images: usize) -> JitPlan {
        JitPlan {
            batch: images,
            x: self.x.rows_from(0, images),
            x_eval: self.x_eval.rows_from(0, images),
            velocity: self.velocity.rows_from(0, HISTORY * images),
            ..*self
        }
    }

    /// The rows of a pass over `images` images, with or without context tokens.
    pub const fn layout(&self, model: &JitModel, images: usize, context: bool) -> TokenLayout {
        TokenLayout {
            images,
            image_tokens: model.config.image_tokens(),
            context_tokens: if context { model.config.context_tokens } else { 0 },
        }
    }

    /// The modulation vectors of a pass over `images` images.
    pub const fn modulation(&self, images: usize) -> Modulation {
        Modulation { table: self.table, rows: self.modulation_rows.cols_from(0, images) }
    }
}

/// Hands out the arena from its start.
struct Bump {
    end: usize,
}

impl Bump {
    fn take(&mut self, bytes: Option<usize>) -> Result<usize, PlanError> {
        let start = self.end;
        let end = bytes.and_then(|n| start.checked_add(n)).and_then(|n| n.checked_next_multiple_of(ALIGN));
        self.end = end.filter(|&n| isize::try_from(n).is_ok()).ok_or(PlanError::TooLarge)?;
        Ok(start)
    }

    fn matrix(&mut self, dtype: DType, rows: usize, cols: usize) -> Result<View, PlanError> {
        let offset = self.take(rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.size())))?;
        Ok(View::dense(Region::Arena, dtype, offset, rows, cols))
    }

    fn f32(&mut self, rows: usize, cols: usize) -> Result<View, PlanError> {
        self.matrix(DType::F32, rows, cols)
    }

    fn u32(&mut self, cols: usize) -> Result<View, PlanError> {
        self.matrix(DType::U32, 1, cols)
    }

    /// Rows padded to [`ROW_ALIGN`] elements of `size` bytes; the view is typed at each use.
    fn padded(&mut self, rows: usize, cols: usize, size: usize) -> Result<View, PlanError> {
        let stride = cols.next_multiple_of(ROW_ALIGN);
        let offset = self.take(rows.checked_mul(stride).and_then(|n| n.checked_mul(size)))?;
        Ok(View { stride, ..View::dense(Region::Arena, DType::I8, offset, rows, cols) })
    }

    /// Goes back to `start` for the next buffers; returns where the last ones ended.
    fn restart(&mut self, start: usize) -> usize {
        core::mem::replace(&mut self.end, start)
    }
}
