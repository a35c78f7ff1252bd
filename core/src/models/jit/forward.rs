use super::params::JitModel;
use super::plan::JitPlan;
use crate::TokenLayout;
use crate::backend::{Backend, OpError, Recorder};
use crate::models::block::{EPS, Pass};
use crate::ops::{ClassCondition, ContextTokens, Epilogue, NormModulate, PixelOrder, Rope, RopePairs};

/// Computes the modulation vectors of every block for `times` time points and `labels` labels, from the sinusoids in
/// `plan.modulation.t_wave` and the labels in `plan.chunk_labels`: row `time · labels + label` of the table.
///
/// They depend on nothing else, so they are computed for many steps at once. Their weights, a quarter to a third of the
/// network, are then read once per chunk instead of once per pass.
///
/// # Errors
/// Errors of the backend.
pub fn modulation<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &JitModel,
    plan: &JitPlan,
    times: usize,
    labels: usize,
) -> Result<(), OpError<B::Error>> {
    let (h, m) = (model.config.hidden, &plan.modulation);
    let wave = m.t_wave.rows_from(0, times);
    let hidden = m.t_hidden.rows_from(0, times);
    let t_emb = m.t_emb.rows_from(0, times);
    let condition = m.condition.rows_from(0, times * labels);
    let table = m.table.rows_from(0, times * labels);
    // t_emb = W2 · SiLU(W0 · wave)
    k.linear(&model.t_mlp0.of(wave, None, hidden, Epilogue::Silu))?;
    k.linear(&model.t_mlp2.of(hidden, None, t_emb, Epilogue::Store))?;
    // c = SiLU(t_emb + y_emb)
    let labels = plan.chunk_labels.cols_from(0, labels);
    k.class_condition(&ClassCondition { t_emb, table: model.label_table, labels, out: condition })?;
    k.tap("condition", &condition)?;
    // (shift, scale, gate) · 2 = W · c, for every block; (shift, scale) for the final layer
    for (i, block) in model.blocks.iter().enumerate() {
        let out = table.cols_from(6 * h * i, 6 * h);
        k.linear(&block.modulation.of(condition, None, out, Epilogue::Store))?;
    }
    let out = table.cols_from(6 * h * model.config.depth, 2 * h);
    k.linear(&model.final_modulation.of(condition, None, out, Epilogue::Store))
}

/// One evaluation: `x_eval` to `x_hat` of `plan.trajectory` for `images` images, which is the batch, or twice the
/// batch with the null branch in the second half. Labels and modulation rows are read from `plan.labels` and
/// `plan.modulation.rows`.
///
/// # Errors
/// Errors of the backend.
pub fn forward<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &JitModel,
    plan: &JitPlan,
    images: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let mut layout = plan.layout(model, images, false);
    let tokens = plan.tokens.rows_from(0, layout.rows());
    plan.ends.embed(k, &model.patch_embed, c.patches(), plan.trajectory.x_eval, model.pos_embed, tokens)?;
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
        let pass = pass(model, plan, &layout);
        pass.project(k, block, 6 * c.hidden * i)?;
        pass.attend(k, block, 6 * c.hidden * i)?;
        pass.feed_forward(k, block, 6 * c.hidden * i)?;
        k.tap(("block", i), &pass.tokens)?;
    }
    final_layer(k, model, plan, images)
}

/// Image tokens are rotated by their position; context tokens are not.
fn pass<'p>(model: &JitModel, plan: &'p JitPlan, layout: &TokenLayout) -> Pass<'p> {
    Pass {
        plan: &plan.blocks,
        precision: plan.precision,
        tokens: plan.tokens.rows_from(0, layout.rows()),
        queries: *layout,
        keys: *layout,
        heads: model.config.heads,
        rope: Some(Rope { table: plan.rope, rows: layout.image_rows(), pairs: RopePairs::Adjacent }),
        modulation: plan.modulation.of_images(layout.images),
    }
}

/// x̂ = unpatchify(linear(modulate(norm(image tokens))))
fn final_layer<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &JitModel,
    plan: &JitPlan,
    images: usize,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let layout = plan.layout(model, images, false);
    k.norm_modulate(&NormModulate {
        x: plan.tokens.rows_from(0, layout.rows()),
        weight: model.final_norm,
        eps: EPS,
        modulation: plan.modulation.of_images(images),
        shift: 6 * c.hidden * c.depth,
        scale: (6 * c.depth + 1) * c.hidden,
        layout,
        out: plan.ends.final_z.rows_from(0, layout.rows()),
        out_scale: None,
        shared_mean: None,
    })?;
    let x_hat = plan.trajectory.x_hat.rows_from(0, images);
    plan.ends.unembed(k, &model.final_linear, c.patches(), PixelOrder::ChannelLast, layout.rows(), x_hat)
}
