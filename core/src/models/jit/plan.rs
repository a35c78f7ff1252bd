use super::params::JitModel;
use crate::models::network::Plan;
use crate::models::patches::PatchPlan;
use crate::models::plan::{BlockPlan, BlockSizes, Bump, ModulationPlan, PlanError, Trajectory};
use crate::tensor::Precision;
use crate::{TokenLayout, View};

/// Maximum size of the modulation table of one chunk of steps.
const TABLE_BYTES: usize = 8 << 20;

/// The position of every activation in one arena. Sizes are those of a guided pass: two branches of `batch` images.
#[derive(Clone, Copy, Debug)]
pub struct JitPlan {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The activation types that the backend prefers at linear layers.
    pub precision: Precision,
    /// The sampler's buffers.
    pub trajectory: Trajectory,
    /// Modulation vectors. The variants are the distinct labels, at most one per image plus the null class.
    pub modulation: ModulationPlan,
    /// The blocks' buffers.
    pub blocks: BlockPlan,
    /// `(1, 2 · batch)` u32: the label of each image.
    pub labels: View,
    /// `(1, batch + 1)` u32: the distinct labels of a job.
    pub chunk_labels: View,
    /// `(image tokens, head_dim)` f32: cosine and sine alternate.
    pub rope: View,
    /// `(rows, hidden)` f32: the residual stream.
    pub tokens: View,
    /// Buffers of the patch embedding and the final layer.
    pub ends: PatchPlan,
}

impl JitPlan {
    /// Plans the activations of `batch` images.
    ///
    /// # Errors
    /// [`PlanError`] for an invalid batch size, or sizes beyond the address space.
    pub fn new(model: &JitModel, batch: usize, precision: Precision) -> Result<JitPlan, PlanError> {
        let c = &model.config;
        let h = c.hidden;
        let mut a = Bump::default();
        let trajectory = Trajectory::new(&mut a, batch, c.pixels())?;
        let (images, labels) = (2 * batch, batch + 1);
        let (image_rows, rows) = (images * c.image_tokens(), images * (c.image_tokens() + c.context_tokens));
        let modulation = ModulationPlan::new(&mut a, batch, h, c.modulation_width(), labels, TABLE_BYTES, precision)?;
        let label_view = a.u32(images)?;
        let chunk_labels = a.u32(labels)?;
        let rope = a.f32(c.image_tokens(), c.head_dim())?;
        let tokens = a.f32(rows, h)?;
        let sizes = BlockSizes { images, rows, key_rows: rows, hidden: h, ffn_hidden: c.ffn_hidden };
        let (blocks, shared) = BlockPlan::new(&mut a, sizes, precision, model.blocks.iter())?;
        let ends = PatchPlan::new(&mut a, shared, image_rows, c.patch_values(), c.bottleneck, h)?;
        Ok(JitPlan {
            arena_bytes: a.bytes(),
            precision,
            trajectory,
            modulation,
            blocks,
            labels: label_view,
            chunk_labels,
            rope,
            tokens,
            ends,
        })
    }

    /// The rows of a pass over `images` images, with or without context tokens.
    pub const fn layout(&self, model: &JitModel, images: usize, context: bool) -> TokenLayout {
        TokenLayout {
            images,
            image_tokens: model.config.image_tokens(),
            context_tokens: if context { model.config.context_tokens } else { 0 },
        }
    }
}

impl Plan for JitPlan {
    fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn trajectory(&self) -> &Trajectory {
        &self.trajectory
    }

    fn modulation(&self) -> &ModulationPlan {
        &self.modulation
    }

    fn head_dim(&self) -> usize {
        self.rope.cols
    }

    fn int8(&self) -> [usize; 2] {
        [self.blocks.z.rows, self.blocks.int8_width]
    }

    fn of_images(&self, images: usize) -> JitPlan {
        JitPlan { trajectory: self.trajectory.of_images(images), ..*self }
    }
}
