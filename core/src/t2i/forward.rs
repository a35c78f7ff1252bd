use super::T2iPlan;
use super::params::{JointBlock, T2iModel};
use crate::block::{EPS, Pass};
use crate::ops::{
    Epilogue, GatherRows, Kernels, LayerNorm, OpError, Patchify, PixelOrder, QkNormRope, QuantizeRows, Recorder,
    RmsNorm, Rope, RopePairs, Tap, Unpatchify,
};
use crate::plan::typed;
use crate::{DType, TokenLayout};

/// The modulation vectors of every block for `times` time points, from the sinusoids in `plan.modulation.t_wave`.
///
/// They depend on the time alone, so all steps' are computed up front, and the quarter of the network that makes them
/// need not stay in memory.
///
/// # Errors
/// What the backend reports.
pub fn modulation<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    times: usize,
) -> Result<(), OpError<K::Error>> {
    let (h, m) = (model.config.hidden, &plan.modulation);
    let wave = m.t_wave.rows_from(0, times);
    let hidden = m.t_hidden.rows_from(0, times);
    let condition = m.condition.rows_from(0, times);
    // c = SiLU(W2 · SiLU(W0 · wave))
    k.linear(&model.t_mlp0.of(wave, None, hidden, Epilogue::Silu))?;
    k.linear(&model.t_mlp2.of(hidden, None, condition, Epilogue::Silu))?;
    k.tap(Tap::Condition, &condition)?;
    // (shift, scale, gate) · 2 = W · c
    for (i, block) in model.all_blocks().enumerate() {
        let out = m.table.rows_from(0, times).cols_from(6 * h * i, 6 * h);
        k.linear(&block.modulation.of(condition, None, out, Epilogue::Store))?;
    }
    Ok(())
}

/// The first `texts` of `plan.texts`, refined at the time of the modulation rows in `plan.modulation.rows`, to
/// `plan.text`.
///
/// # Errors
/// What the backend reports.
pub fn refine<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    texts: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let layout = TokenLayout { images: texts, image_tokens: c.text_length, context_tokens: 0 };
    let (z, y) = (plan.text_z.rows_from(0, layout.rows()), plan.text.rows_from(0, layout.rows()));
    // y = RMSNorm(W · text) + position
    let texts = plan.texts.rows_from(0, layout.rows());
    k.linear(&model.text_proj.of(texts, None, z, Epilogue::Store))?;
    let position = Some(model.text_position);
    k.rms_norm(&RmsNorm { x: z, weight: model.text_norm, eps: EPS, position, out: y, out_scale: None })?;
    k.tap(Tap::TextEmbed, &y)?;
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
        k.tap(Tap::TextBlock(i as u16), &y)?;
    }
    Ok(())
}

/// (k, v) = kv_y(y), k = norm(k), for every image block: from the first `texts` of `plan.text` to `plan.text_kv`. The
/// text is not rotated.
///
/// # Errors
/// What the backend reports.
pub fn text_keys<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    texts: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let rows = texts * c.text_length;
    let y = plan.text.rows_from(0, rows);
    // One int8 copy of the text serves every block.
    let (z, z_scale) = typed(plan.blocks.z, plan.blocks.z_scale, DType::I8, rows);
    let is_int8 = |block: &JointBlock| block.kv_y.weight.data.dtype == DType::I8;
    if let Some(out_scale) = z_scale.filter(|_| model.blocks.iter().any(is_int8)) {
        k.quantize_rows(&QuantizeRows { x: y, out: z, out_scale, centre: None, rotated: false })?;
    }
    for (i, block) in model.blocks.iter().enumerate() {
        let (x, x_scale) = if is_int8(block) { (z, z_scale) } else { (y, None) };
        let kv = plan.text_kv.rows_from(0, rows).cols_from(2 * c.hidden * i, 2 * c.hidden);
        k.linear(&block.kv_y.of(x, x_scale, kv, Epilogue::Store))?;
        k.qk_norm_rope(&QkNormRope {
            qkv: kv,
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
/// What the backend reports.
pub fn forward<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    images: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let h = c.hidden;
    let (queries, keys) = plan.layouts(model, images);
    patch_embed(k, model, plan, queries.rows())?;
    let pass = Pass {
        plan: &plan.blocks,
        precision: plan.precision,
        tokens: plan.tokens.rows_from(0, queries.rows()),
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
            out: plan.blocks.qkv.rows_from(queries.rows(), images * c.text_length).cols_from(h, 2 * h),
        })?;
        pass.attend(k, &block.image, column)?;
        pass.feed_forward(k, &block.image, column)?;
        k.tap(Tap::Block(i as u16), &pass.tokens)?;
    }
    final_layer(k, model, plan, images)
}

/// tokens = proj2(proj1(patches)) + pos_embed
fn patch_embed<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    rows: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let (patches, bottleneck) = (plan.patches.rows_from(0, rows), plan.bottleneck.rows_from(0, rows));
    let tokens = plan.tokens.rows_from(0, rows);
    let image = plan.trajectory.x_eval;
    k.patchify(&Patchify { image, grid: c.grid(), patch: c.patch_size, out: patches })?;
    k.linear(&model.proj1.of(patches, None, bottleneck, Epilogue::Store))?;
    k.linear(&model.proj2.of(bottleneck, None, tokens, Epilogue::AddPeriodic(model.pos_embed)))?;
    k.tap(Tap::PatchEmbed, &tokens)
}

/// x̂ = unpatchify(linear(LayerNorm(tokens)))
fn final_layer<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &T2iModel,
    plan: &T2iPlan,
    images: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let rows = images * c.image_tokens();
    let (z, out) = (plan.final_z.rows_from(0, rows), plan.out.rows_from(0, rows));
    k.layer_norm(&LayerNorm { x: plan.tokens.rows_from(0, rows), eps: EPS, out: z, out_scale: None })?;
    k.linear(&model.final_linear.of(z, None, out, Epilogue::Store))?;
    k.tap(Tap::Final, &out)?;
    let x_hat = plan.trajectory.x_hat.rows_from(0, images);
    k.unpatchify(&Unpatchify {
        x: out,
        grid: c.grid(),
        patch: c.patch_size,
        order: PixelOrder::ChannelFirst,
        out: x_hat,
    })?;
    k.tap(Tap::XHat, &x_hat)
}
