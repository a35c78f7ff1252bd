use super::params::T2iModel;
use crate::models::network::Plan;
use crate::models::patches::PatchPlan;
use crate::models::plan::{BlockPlan, BlockSizes, Bump, ModulationPlan, PlanError, Trajectory, attention_type};
use crate::tensor::Precision;
use crate::{TokenLayout, View};

/// Maximum size of the modulation table of one chunk of steps. It holds every step of upstream's sampler at the
/// published size, so that the modulation weights are read once per image.
const TABLE_BYTES: usize = 32 << 20;
/// Texts of a batch: the prompt of all images, and the negative prompt.
pub(super) const TEXTS: usize = 2;

/// The position of every activation in one arena. Sizes are those of a guided pass: two branches of `batch` images.
#[derive(Clone, Copy, Debug)]
pub struct T2iPlan {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The activation types that the backend prefers at linear layers.
    pub precision: Precision,
    /// The sampler's buffers.
    pub trajectory: Trajectory,
    /// Modulation vectors; one variant.
    pub modulation: ModulationPlan,
    /// The blocks' buffers, used by text and image blocks in turn.
    pub blocks: BlockPlan,
    /// `(2 · text length, text width)` f32: the prompt, then the negative prompt.
    pub texts: View,
    /// `(1, 2 · batch)` u32: the text of each image.
    pub text_of_image: View,
    /// `(2 · text length, hidden)` f32: the projected text before its norm.
    pub text_z: View,
    /// `(2 · text length, hidden)` f32: the text's residual stream.
    pub text: View,
    /// `(2 · text length, depth · 2 · hidden)` in the type that attention reads: text keys and values of every image
    /// block.
    pub text_kv: View,
    /// `(image tokens, head_dim)` f32: cosine and sine alternate.
    pub rope: View,
    /// `(image rows, hidden)` f32: the image's residual stream.
    pub tokens: View,
    /// Buffers of the patch embedding and the final layer.
    pub ends: PatchPlan,
}

impl T2iPlan {
    /// Plans the activations of `batch` images.
    ///
    /// # Errors
    /// [`PlanError`] for an invalid batch size, or sizes beyond the address space.
    pub fn new(model: &T2iModel, batch: usize, precision: Precision) -> Result<T2iPlan, PlanError> {
        let c = &model.config;
        let h = c.hidden;
        let mut a = Bump::default();
        let trajectory = Trajectory::new(&mut a, batch, c.pixels())?;
        let images = 2 * batch;
        let (image_rows, text_rows) = (images * c.image_tokens(), TEXTS * c.text_length);
        let modulation = ModulationPlan::new(&mut a, batch, h, c.modulation_width(), 1, TABLE_BYTES, precision)?;
        let texts = a.f32(text_rows, c.text_width)?;
        let text_of_image = a.u32(images)?;
        let text = a.f32(text_rows, h)?;
        let text_kv = a.matrix(attention_type(precision, model.all_blocks()), text_rows, c.depth * 2 * h)?;
        let rope = a.f32(c.image_tokens(), c.head_dim())?;
        let tokens = a.f32(image_rows, h)?;
        let sizes = BlockSizes {
            images: images.max(TEXTS),
            rows: image_rows.max(text_rows),
            key_rows: image_rows + images * c.text_length,
            hidden: h,
            ffn_hidden: c.ffn_hidden,
        };
        let (blocks, shared) = BlockPlan::new(&mut a, sizes, precision, model.all_blocks())?;
        let text_z = a.f32(text_rows, h)?;
        let ends = PatchPlan::new(&mut a, shared, image_rows, c.patch_values(), c.bottleneck, h)?;
        Ok(T2iPlan {
            arena_bytes: a.bytes(),
            precision,
            trajectory,
            modulation,
            blocks,
            texts,
            text_of_image,
            text_z,
            text,
            text_kv,
            rope,
            tokens,
            ends,
        })
    }

    /// The rows of a pass over `images` images: queries, and keys, which include each image's text.
    pub const fn layouts(&self, model: &T2iModel, images: usize) -> (TokenLayout, TokenLayout) {
        let queries = TokenLayout { images, image_tokens: model.config.image_tokens(), context_tokens: 0 };
        (queries, TokenLayout { context_tokens: model.config.text_length, ..queries })
    }
}

impl Plan for T2iPlan {
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

    fn of_images(&self, images: usize) -> T2iPlan {
        T2iPlan { trajectory: self.trajectory.of_images(images), ..*self }
    }
}
