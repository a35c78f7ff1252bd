use super::params::{JointBlock, T2iModel};
use super::plan::T2iPlan;
use crate::backend::{Backend, OpError, Recorder};
use crate::models::block::{EPS, Pass};
use crate::models::plan::typed;
use crate::ops::{Epilogue, GatherRows, LayerNorm, PixelOrder, QkNormRope, QuantizeRows, RmsNorm, Rope, RopePairs};
use crate::{DType, TokenLayout};

/// Computes the modulation vectors of every block for `times` time points, from the sinusoids in
/// `plan.modulation.t_wave`.
///
/// They depend only on the time, so those of all steps are computed up front. Their weights, a quarter of the network,
/// then need not stay in memory.
///
/// # Errors
/// Errors of the backend.
pub fn modulation<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &T2iModel,
    plan: &T2iPlan,
    times: usize,
) -> Result<(), OpError<B::Error>> {
    let (h, m) = (model.config.hidden, &plan.modulation);
    let wave = m.t_wave.rows_from(0, times);
    let hidden = m.t_hidden.rows_from(0, times);
    let condition = m.condition.rows_from(0, times);
    // c = SiLU(W2 · SiLU(W0 · wave))
    k.linear(&model.t_mlp0.of(wave, None, hidden, Epilogue::Silu))?;
    k.linear(&model.t_mlp2.of(hidden, None, condition, Epilogue::Silu))?;
    k.tap("condition", &condition)?;
    // (shift, scale, gate) · 2 = W · c
    for (i, block) in model.all_blocks().enumerate() {
        let out = m.table.rows_from(0, times).cols_from(6 * h * i, 6 * h);
        k.linear(&block.modulation.of(condition, None, out, Epilogue::Store))?;
    }
    Ok(())
}

/// Refines the first `texts` of `plan.texts` at the time of the modulation rows in `plan.modulation.rows`, to
/// `plan.text`.
///
/// # Errors
/// Errors of the backend.
pub fn refine<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &T2iModel,
    plan: &T2iPlan,
    texts: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let layout = TokenLayout { images: texts, image_tokens: c.text_length, context_tokens: 0 };
    let (z, y) = (plan.text_z.rows_from(0, layout.rows()), plan.text.rows_from(0, layout.rows()));
    // y = RMSNorm(W · text) + position
    let texts = plan.texts.rows_from(0, layout.rows());
    k.linear(&model.text_proj.of(texts, None, z, Epilogue::Store))?;
    let position = Some(model.text_position);
    k.rms_norm(&RmsNorm { x: z, weight: model.text_norm, eps: EPS, position, out: y, out_scale: None })?;
    k.tap("text_embed", &y)?;
    let pass = Pass {
        plan: &plan.blocks,
        precision: plan.precision,
        tokens: y,
        queries: layout,
        keys: layout,
        heads: c.heads,
        rope: None,
        modulation: plan.modulation.of_images(layout.images),
    };
    for (i, block) in model.text_blocks.iter().enumerate() {
        pass.project(k, block, 6 * c.hidden * i)?;
        pass.attend(k, block, 6 * c.hidden * i)?;
        pass.feed_forward(k, block, 6 * c.hidden * i)?;
        k.tap(("text", i), &y)?;
    }
    Ok(())
}

/// (k, v) = kv_y(y), k = norm(k), for every image block: from the first `texts` of `plan.text` to `plan.text_kv`. Text
/// keys are not rotated.
///
/// # Errors
/// Errors of the backend.
pub fn text_keys<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &T2iModel,
    plan: &T2iPlan,
    texts: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let rows = texts * c.text_length;
    let y = plan.text.rows_from(0, rows);
    // One int8 copy of the text serves every block.
    let (z, z_scale) = typed(plan.blocks.z, plan.blocks.z_scale, DType::I8, rows);
    let is_int8 = |block: &JointBlock| block.kv_y.weight.data.dtype == DType::I8;
    if let Some(out_scale) = z_scale.filter(|_| model.blocks.iter().any(is_int8)) {
        k.quantize_rows(&QuantizeRows { x: y, out: z, out_scale, shared_mean: None, rotated: false })?;
    }
    for (i, block) in model.blocks.iter().enumerate() {
        let (x, x_scale) = if is_int8(block) { (z, z_scale) } else { (y, None) };
        let out = plan.text_kv.rows_from(0, rows).cols_from(2 * c.hidden * i, 2 * c.hidden);
        let (kv, out) = match out.dtype {
            DType::F32 => (out, None),
            // In a place that the blocks will need later.
            _ => (plan.blocks.qkv.rows_from(0, rows).cols_from(0, 2 * c.hidden), Some(out)),
        };
        k.linear(&block.kv_y.of(x, x_scale, kv, Epilogue::Store))?;
        k.qk_norm_rope(&QkNormRope {
            qkv: kv,
            out,
            q_weight: block.image.q_norm,
            k_weight: block.image.k_norm,
            eps: EPS,
            heads: 0,
            kv_heads: c.heads,
            rope: None,
        })?;
    }
    Ok(())
}

/// One evaluation: `x_eval` to `x_hat` of `plan.trajectory` for `images` images, which is the batch, or twice the batch
/// with the null branch in the second half. Each image's text is at `plan.text_of_image`, its keys and values in
/// `plan.text_kv`.
///
/// # Errors
/// Errors of the backend.
pub fn forward<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &T2iModel,
    plan: &T2iPlan,
    images: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let h = c.hidden;
    let (queries, keys) = plan.layouts(model, images);
    let tokens = plan.tokens.rows_from(0, queries.rows());
    plan.ends.embed(k, &model.patch_embed, c.patches(), plan.trajectory.x_eval, model.pos_embed, tokens)?;
    let pass = Pass {
        plan: &plan.blocks,
        precision: plan.precision,
        tokens,
        queries,
        keys,
        heads: c.heads,
        rope: Some(Rope { table: plan.rope, rows: queries.rows(), pairs: RopePairs::Adjacent }),
        modulation: plan.modulation.of_images(images),
    };
    for (i, block) in model.blocks.iter().enumerate() {
        let column = 6 * h * (c.text_depth + i);
        pass.project(k, &block.image, column)?;
        // The text's keys and values below the image's.
        k.gather_rows(&GatherRows {
            x: plan.text_kv.cols_from(2 * h * i, 2 * h),
            index: plan.text_of_image.cols_from(0, images),
            count: c.text_length,
            out: plan.blocks.attention_input().rows_from(queries.rows(), images * c.text_length).cols_from(h, 2 * h),
        })?;
        pass.attend(k, &block.image, column)?;
        pass.feed_forward(k, &block.image, column)?;
        k.tap(("block", i), &pass.tokens)?;
    }
    final_layer(k, model, plan, images)
}

/// x̂ = unpatchify(linear(LayerNorm(tokens)))
fn final_layer<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &T2iModel,
    plan: &T2iPlan,
    images: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let rows = images * c.image_tokens();
    let (x, out) = (plan.tokens.rows_from(0, rows), plan.ends.final_z.rows_from(0, rows));
    k.layer_norm(&LayerNorm { x, eps: EPS, out, out_scale: None })?;
    let x_hat = plan.trajectory.x_hat.rows_from(0, images);
    plan.ends.unembed(k, &model.final_linear, c.patches(), PixelOrder::ChannelFirst, rows, x_hat)
}
