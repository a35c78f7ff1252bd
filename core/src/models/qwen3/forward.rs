use core::iter;

use super::params::{LayerParams, Qwen3Model};
use super::plan::Qwen3Plan;
use crate::backend::{Backend, OpError, Recorder};
use crate::models::params::Matrix;
use crate::models::plan::typed;
use crate::ops::{
    CausalAttention, DequantizeBlocks, Epilogue, GatherRows, Linear, QkNormRope, QuantizeRows, RmsNorm, Rope,
    RopePairs, Swiglu,
};
use crate::{DType, View, Weight};

/// A part of the network, from tokens and lengths in `plan.ids` and `plan.lengths` to the last hidden states in
/// `plan.out`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Embedding,
    /// One of the layers.
    Layer(usize),
    FinalNorm,
}

/// Every part of a network of `depth` layers, in order.
pub(super) fn parts(depth: usize) -> impl Iterator<Item = Part> {
    iter::once(Part::Embedding).chain((0..depth).map(Part::Layer)).chain([Part::FinalNorm])
}

/// Runs one part.
///
/// # Errors
/// Errors of the backend.
pub(super) fn forward<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &Qwen3Model,
    plan: &Qwen3Plan,
    part: Part,
) -> Result<(), OpError<B::Error>> {
    match part {
        Part::Embedding => {
            embed(k, model, plan)?;
            k.tap("embed", &plan.x)
        }
        Part::Layer(i) => {
            let Some(layer) = model.layers.get(i) else { return Ok(()) };
            attention_branch(k, model, plan, layer)?;
            ffn_branch(k, model, plan, layer)?;
            k.tap(("layer", i), &plan.x)
        }
        Part::FinalNorm => {
            let (weight, eps) = (model.final_norm, model.config.eps);
            k.rms_norm(&RmsNorm { x: plan.x, weight, eps, position: None, out: plan.out, out_scale: None })?;
            k.tap("last_hidden_state", &plan.out)
        }
    }
}

/// x = embedding[id]
fn embed<B: Backend>(k: &mut Recorder<'_, B>, model: &Qwen3Model, plan: &Qwen3Plan) -> Result<(), OpError<B::Error>> {
    match (&model.embedding, plan.blocks) {
        (Matrix::Blocks(x), Some(blocks)) => {
            k.gather_rows(&GatherRows { x: *x, index: plan.ids, count: 1, out: blocks })?;
            k.dequantize_blocks(&DequantizeBlocks { x: blocks, out: plan.x })
        }
        (Matrix::Plain(Weight { data: x, .. }) | Matrix::Blocks(x), _) => {
            k.gather_rows(&GatherRows { x: *x, index: plan.ids, count: 1, out: plan.x })
        }
    }
}

/// x += output(attention(rope(norm(q)), rope(norm(k)), v)),  (q, k, v) of attn_norm(x)
fn attention_branch<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &Qwen3Model,
    plan: &Qwen3Plan,
    layer: &LayerParams,
) -> Result<(), OpError<B::Error>> {
    let c = &model.config;
    let (q_width, kv_width) = (c.q_width(), c.kv_width());
    let q = plan.qkv.cols_from(0, q_width);
    let (key, value) = (plan.qkv.cols_from(q_width, kv_width), plan.qkv.cols_from(q_width + kv_width, kv_width));
    normed(k, plan, layer.attn_norm, c.eps, &[(&layer.q, q), (&layer.k, key), (&layer.v, value)])?;
    k.qk_norm_rope(&QkNormRope {
        qkv: plan.qkv,
        out: None,
        q_weight: layer.q_norm,
        k_weight: layer.k_norm,
        eps: c.eps,
        heads: c.heads,
        kv_heads: c.kv_heads,
        rope: Some(Rope { table: plan.rope, rows: plan.rows(), pairs: RopePairs::Halves }),
    })?;
    let dtype = input_of(plan, &layer.output);
    let (z, z_scale) = typed(plan.attended_z, plan.scale, dtype, plan.rows());
    let out = if dtype == DType::I8 { plan.attended } else { z };
    let (heads, kv_heads, lengths) = (c.heads, c.kv_heads, plan.lengths);
    k.causal_attention(&CausalAttention { q, k: key, v: value, heads, kv_heads, lengths, out })?;
    if let Some(out_scale) = z_scale {
        k.quantize_rows(&QuantizeRows { x: plan.attended, out: z, out_scale, shared_mean: None, rotated: false })?;
    }
    linear(k, plan, &layer.output, z, z_scale, plan.x, Epilogue::Residual)
}

/// x += down(SiLU(gate) · up),  (gate, up) of ffn_norm(x)
fn ffn_branch<B: Backend>(
    k: &mut Recorder<'_, B>,
    model: &Qwen3Model,
    plan: &Qwen3Plan,
    layer: &LayerParams,
) -> Result<(), OpError<B::Error>> {
    let (c, x) = (&model.config, plan.ffn);
    let (gate, up) = (x.cols_from(0, c.ffn_hidden), x.cols_from(c.ffn_hidden, c.ffn_hidden));
    normed(k, plan, layer.ffn_norm, c.eps, &[(&layer.gate, gate), (&layer.up, up)])?;
    let (out, out_scale) = typed(plan.ffn_z, plan.scale, input_of(plan, &layer.down), plan.rows());
    k.swiglu(&Swiglu { x, out, out_scale, rotated: false })?;
    linear(k, plan, &layer.down, out, out_scale, plan.x, Epilogue::Residual)
}

/// out = w · norm(x) for each pair of weights and output. If the weights have several types, the norm is computed for
/// each type.
fn normed<B: Backend>(
    k: &mut Recorder<'_, B>,
    plan: &Qwen3Plan,
    weight: View,
    eps: f32,
    layers: &[(&Matrix, View)],
) -> Result<(), OpError<B::Error>> {
    let mut made = None;
    for (matrix, to) in layers {
        let dtype = input_of(plan, matrix);
        let (out, out_scale) = typed(plan.z, plan.scale, dtype, plan.rows());
        if made.replace(dtype) != Some(dtype) {
            k.rms_norm(&RmsNorm { x: plan.x, weight, eps, position: None, out, out_scale })?;
        }
        linear(k, plan, matrix, out, out_scale, *to, Epilogue::Store)?;
    }
    Ok(())
}

/// out = epilogue(x · wᵀ), for Q8_0 blocks a few rows at a time.
fn linear<B: Backend>(
    k: &mut Recorder<'_, B>,
    plan: &Qwen3Plan,
    matrix: &Matrix,
    x: View,
    x_scale: Option<View>,
    out: View,
    epilogue: Epilogue,
) -> Result<(), OpError<B::Error>> {
    match (matrix, plan.slab) {
        (Matrix::Blocks(blocks), Some(slab)) => {
            for first in (0..blocks.rows).step_by(slab.rows) {
                let rows = slab.rows.min(blocks.rows - first);
                let data = View::dense(slab.region, slab.dtype, slab.offset, rows, x.cols);
                k.dequantize_blocks(&DequantizeBlocks { x: blocks.rows_from(first, rows), out: data })?;
                let (w, out) = (Weight { data, scale: None, residual: None }, out.cols_from(first, rows));
                k.linear(&Linear { x, x_scale: None, shared_mean: None, w, bias: None, out, epilogue })?;
            }
            Ok(())
        }
        (Matrix::Plain(w), _) => k.linear(&Linear { x, x_scale, shared_mean: None, w: *w, bias: None, out, epilogue }),
        // A plan for a model with blocks has a slab.
        (Matrix::Blocks(data), None) => {
            let w = Weight { data: *data, scale: None, residual: None };
            k.linear(&Linear { x, x_scale, shared_mean: None, w, bias: None, out, epilogue })
        }
    }
}

/// The activation type for this matrix.
const fn input_of(plan: &Qwen3Plan, matrix: &Matrix) -> DType {
    match matrix {
        Matrix::Plain(weight) => plan.precision.input_of(weight),
        Matrix::Blocks(_) => DType::F32,
    }
}
