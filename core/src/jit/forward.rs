use super::params::{Affine, BlockParams, JitModel};
use super::{EPS, JitPlan, PatchEmbedParams};
use crate::ops::{
    Attention, ClassCondition, ContextTokens, Epilogue, Kernels, Linear, NormModulate, OpError, Patchify, PixelOrder,
    QkNormRope, QuantizeRows, Recorder, Rope, RopePairs, Swiglu, Tap, Unpatchify,
};
use crate::{DType, TokenLayout, View};

/// The modulation vectors of every block for `times` time points and `labels` labels, from the sinusoids in
/// `plan.t_wave` and the labels in `plan.chunk_labels`: row `time · labels + label` of `plan.table`.
///
/// They depend on nothing else, so they are computed for many steps at once, and the weights that make them, a
/// quarter to a third of the network, are read once in a chunk instead of once in a pass.
///
/// # Errors
/// What the backend reports.
pub fn modulation<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    times: usize,
    labels: usize,
) -> Result<(), OpError<K::Error>> {
    let h = model.config.hidden;
    let wave = plan.t_wave.rows_from(0, times);
    let hidden = plan.t_hidden.rows_from(0, times);
    let t_emb = plan.t_emb.rows_from(0, times);
    let condition = plan.condition.rows_from(0, times * labels);
    let table = plan.table.rows_from(0, times * labels);
    // t_emb = W2 · SiLU(W0 · wave)
    k.linear(&affine(wave, None, &model.t_mlp0, hidden, Epilogue::Silu))?;
    k.linear(&affine(hidden, None, &model.t_mlp2, t_emb, Epilogue::Store))?;
    // c = SiLU(t_emb + y_emb)
    let labels = plan.chunk_labels.cols_from(0, labels);
    k.class_condition(&ClassCondition { t_emb, table: model.label_table, labels, out: condition })?;
    k.tap(Tap::Condition, &condition)?;
    // (shift, scale, gate) · 2 = W · c, for every block; (shift, scale) for the final layer
    for (i, block) in model.blocks.iter().enumerate() {
        let out = table.cols_from(6 * h * i, 6 * h);
        k.linear(&affine(condition, None, &block.modulation, out, Epilogue::Store))?;
    }
    let out = table.cols_from(6 * h * model.config.depth, 2 * h);
    k.linear(&affine(condition, None, &model.final_modulation, out, Epilogue::Store))
}

/// One evaluation: `plan.x_eval` to `plan.x_hat` for `images` images, which is the batch, or twice the batch with
/// the null branch in the second half. Labels and modulation rows are read from `plan.labels` and
/// `plan.modulation_rows`.
///
/// # Errors
/// What the backend reports.
pub fn forward<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    images: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let mut layout = plan.layout(model, images, false);
    patch_embed(k, model, plan, &layout)?;
    for (i, block) in model.blocks.iter().enumerate() {
        if i == c.context_start && c.context_tokens > 0 {
            layout = plan.layout(model, images, true);
            k.context_tokens(&ContextTokens {
                table: model.label_table,
                position: model.context_position,
                labels: plan.labels.cols_from(0, images),
                out: plan.tokens.rows_from(layout.image_rows(), images * c.context_tokens),
            })?;
        }
        attention_branch(k, model, plan, block, &layout, 6 * c.hidden * i)?;
        ffn_branch(k, model, plan, block, &layout, 6 * c.hidden * i + 3 * c.hidden)?;
        k.tap(Tap::Block(i as u16), &plan.tokens.rows_from(0, layout.rows()))?;
    }
    final_layer(k, model, plan, images)
}

/// tokens = proj2(proj1(patches)) + pos_embed
fn patch_embed<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    layout: &TokenLayout,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let rows = layout.image_rows();
    let patches = plan.patches.rows_from(0, rows);
    let tokens = plan.tokens.rows_from(0, rows);
    k.patchify(&Patchify { image: plan.x_eval, grid: c.grid(), patch: c.patch_size, out: patches })?;
    let add_position = Epilogue::AddPeriodic(model.pos_embed);
    match &model.patch_embed {
        PatchEmbedParams::Bottleneck(proj1, proj2) => {
            let out = plan.bottleneck.rows_from(0, rows);
            k.linear(&Linear { x: patches, x_scale: None, w: *proj1, bias: None, out, epilogue: Epilogue::Store })?;
            k.linear(&affine(out, None, proj2, tokens, add_position))?;
        }
        PatchEmbedParams::Direct(proj1) => k.linear(&affine(patches, None, proj1, tokens, add_position))?,
    }
    k.tap(Tap::PatchEmbed, &tokens)
}

/// tokens += gate · proj(attention(rope(norm(q)), rope(norm(k)), v)),  (q, k, v) = qkv(modulate(norm1(tokens)))
fn attention_branch<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    block: &BlockParams,
    layout: &TokenLayout,
    column: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let (h, rows) = (c.hidden, layout.rows());
    let (z, z_scale) = normed(k, plan, block.norm1, layout, column, h, plan.precision.input_of(&block.qkv.weight))?;
    let qkv = plan.qkv.rows_from(0, rows);
    k.linear(&affine(z, z_scale, &block.qkv, qkv, Epilogue::Store))?;
    k.qk_norm_rope(&QkNormRope {
        qkv,
        q_weight: block.q_norm,
        k_weight: block.k_norm,
        eps: EPS,
        heads: c.heads,
        kv_heads: c.heads,
        rope: Some(Rope { table: plan.rope, rows: layout.image_rows(), pairs: RopePairs::Adjacent }),
    })?;
    let dtype = plan.precision.input_of(&block.proj.weight);
    let (z, z_scale) = typed(plan.z, plan.z_scale, dtype, rows);
    // An int8 row's scale needs all heads of the row, so attention's f32 output is quantised by a kernel of its own.
    let attended = if dtype == DType::I8 { plan.attended.rows_from(0, rows) } else { z };
    k.attention(&Attention {
        q: qkv.cols_from(0, h),
        k: qkv.cols_from(h, h),
        v: qkv.cols_from(2 * h, h),
        heads: c.heads,
        queries: *layout,
        keys: *layout,
        out: attended,
    })?;
    if let Some(out_scale) = z_scale {
        k.quantize_rows(&QuantizeRows { x: attended, out: z, out_scale })?;
    }
    k.linear(&affine(z, z_scale, &block.proj, plan.tokens.rows_from(0, rows), gated(plan, layout, column + 2 * h)))
}

/// tokens += gate · w3(SiLU(a) · b),  (a, b) = w12(modulate(norm2(tokens)))
fn ffn_branch<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    block: &BlockParams,
    layout: &TokenLayout,
    column: usize,
) -> Result<(), OpError<K::Error>> {
    let (h, rows) = (model.config.hidden, layout.rows());
    let (z, z_scale) = normed(k, plan, block.norm2, layout, column, h, plan.precision.input_of(&block.w12.weight))?;
    let ffn = plan.ffn.rows_from(0, rows);
    k.linear(&affine(z, z_scale, &block.w12, ffn, Epilogue::Store))?;
    let (out, out_scale) = typed(plan.ffn_z, plan.ffn_scale, plan.precision.input_of(&block.w3.weight), rows);
    k.swiglu(&Swiglu { x: ffn, out, out_scale })?;
    k.linear(&affine(out, out_scale, &block.w3, plan.tokens.rows_from(0, rows), gated(plan, layout, column + 2 * h)))
}

/// x̂ = unpatchify(linear(modulate(norm(image tokens))))
fn final_layer<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    model: &JitModel,
    plan: &JitPlan,
    images: usize,
) -> Result<(), OpError<K::Error>> {
    let c = &model.config;
    let layout = plan.layout(model, images, false);
    let z = plan.final_z.rows_from(0, layout.rows());
    k.norm_modulate(&NormModulate {
        x: plan.tokens.rows_from(0, layout.rows()),
        weight: model.final_norm,
        eps: EPS,
        modulation: plan.modulation(images),
        shift: 6 * c.hidden * c.depth,
        scale: (6 * c.depth + 1) * c.hidden,
        layout,
        out: z,
        out_scale: None,
    })?;
    let out = plan.out.rows_from(0, layout.rows());
    k.linear(&affine(z, None, &model.final_linear, out, Epilogue::Store))?;
    k.tap(Tap::Final, &out)?;
    let x_hat = plan.x_hat.rows_from(0, images);
    k.unpatchify(&Unpatchify {
        x: out,
        grid: c.grid(),
        patch: c.patch_size,
        order: PixelOrder::ChannelLast,
        out: x_hat,
    })?;
    k.tap(Tap::XHat, &x_hat)
}

/// modulate(norm(tokens)) in the type of the next linear layer; shift at `column`, scale after it.
fn normed<K: Kernels + ?Sized>(
    k: &mut Recorder<'_, K>,
    plan: &JitPlan,
    weight: View,
    layout: &TokenLayout,
    column: usize,
    hidden: usize,
    dtype: DType,
) -> Result<(View, Option<View>), OpError<K::Error>> {
    let (out, out_scale) = typed(plan.z, plan.z_scale, dtype, layout.rows());
    k.norm_modulate(&NormModulate {
        x: plan.tokens.rows_from(0, layout.rows()),
        weight,
        eps: EPS,
        modulation: plan.modulation(layout.images),
        shift: column,
        scale: column + hidden,
        layout: *layout,
        out,
        out_scale,
    })?;
    Ok((out, out_scale))
}

/// The first `rows` rows of a padded buffer in this type, with the scales that int8 needs.
fn typed(buffer: View, scale: View, dtype: DType, rows: usize) -> (View, Option<View>) {
    let view = View { dtype, ..buffer }.rows_from(0, rows);
    (view, (dtype == DType::I8).then(|| scale.cols_from(0, rows)))
}

fn gated(plan: &JitPlan, layout: &TokenLayout, gate: usize) -> Epilogue {
    Epilogue::GatedResidual { modulation: plan.modulation(layout.images), gate, layout: *layout }
}

fn affine(x: View, x_scale: Option<View>, layer: &Affine, out: View, epilogue: Epilogue) -> Linear {
    Linear { x, x_scale, w: layer.weight, bias: Some(layer.bias), out, epilogue }
}
