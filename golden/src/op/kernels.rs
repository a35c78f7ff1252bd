//! Builds a kernel's descriptor from the fields of a fixture.

use denoir::core::ops::{
    Attention, CausalAttention, ClassCondition, ContextTokens, DequantizeBlocks, Epilogue, GatherRows, LayerNorm,
    Linear, NormModulate, Op, Patchify, PixelOrder, QkNormRope, QuantizeRows, RmsNorm, Rope, RopePairs, SolverStep,
    StepValues, Swiglu, Unpatchify,
};
use denoir::core::{DType, Region, Weight};

use super::case::{Case, Outputs};
use crate::error::Error;

/// The descriptor of a case, and what it writes.
pub(super) fn kernel(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    match c.fixture.parameter("op")? {
        "linear" => linear(c),
        "class_condition" => class_condition(c),
        "context_tokens" => context_tokens(c),
        "patchify" => patchify(c),
        "unpatchify" => unpatchify(c),
        "norm_modulate" => norm_modulate(c),
        "qk_norm_rope" => qk_norm_rope(c),
        "attention" => attention(c),
        "causal_attention" => causal_attention(c),
        "rms_norm" => rms_norm(c),
        "layer_norm" => layer_norm(c),
        "gather_rows" => gather_rows(c),
        "dequantize_blocks" => dequantize_blocks(c),
        "swiglu" => swiglu(c),
        "quantize_rows" => quantize_rows(c),
        "solver_step" => solver_step(c),
        other => Err(c.fixture.error(&format!("the kernel {other:?} is not known"))),
    }
}

fn linear(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, x_scale) = (c.x("x")?, c.optional(Region::Arena, "x_scale")?);
    let w = Weight { data: c.w("w")?, scale: c.optional(Region::Weights, "w_scale")?, residual: None };
    let bias = c.optional(Region::Weights, "bias")?;
    let (epilogue, out) = match c.text("epilogue")? {
        "store" => (Epilogue::Store, c.out("out")?),
        "silu" => (Epilogue::Silu, c.out("out")?),
        "residual" => (Epilogue::Residual, c.x("out")?),
        "add_periodic" => (Epilogue::AddPeriodic(c.w("table")?), c.out("out")?),
        "gated_residual" => {
            let (modulation, gate, layout) = (c.modulation()?, c.number("gate")?, c.layout("")?);
            (Epilogue::GatedResidual { modulation, gate, layout }, c.x("out")?)
        }
        other => return Err(c.fixture.error(&format!("the epilogue {other:?} is not known"))),
    };
    Ok((Op::Linear(Linear { x, x_scale, shared_mean: None, w, bias, out, epilogue }), vec![("out", out)]))
}

fn class_condition(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (t_emb, table, labels, out) = (c.x("t_emb")?, c.w("table")?, c.x("labels")?, c.out("out")?);
    Ok((Op::ClassCondition(ClassCondition { t_emb, table, labels, out }), vec![("out", out)]))
}

fn context_tokens(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (table, position, labels, out) = (c.w("table")?, c.w("position")?, c.x("labels")?, c.out("out")?);
    Ok((Op::ContextTokens(ContextTokens { table, position, labels, out }), vec![("out", out)]))
}

fn patchify(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (image, out) = (c.x("image")?, c.out("out")?);
    let (grid, patch) = (c.number("grid")?, c.number("patch")?);
    Ok((Op::Patchify(Patchify { image, grid, patch, out }), vec![("out", out)]))
}

fn unpatchify(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, out) = (c.x("x")?, c.out("out")?);
    let order = match c.text("order")? {
        "channel_last" => PixelOrder::ChannelLast,
        "channel_first" => PixelOrder::ChannelFirst,
        other => return Err(c.fixture.error(&format!("the order {other:?} is not known"))),
    };
    let (grid, patch) = (c.number("grid")?, c.number("patch")?);
    Ok((Op::Unpatchify(Unpatchify { x, grid, patch, order, out }), vec![("out", out)]))
}

fn norm_modulate(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let op = NormModulate {
        x: c.x("x")?,
        weight: c.w("weight")?,
        eps: c.number("eps")?,
        modulation: c.modulation()?,
        shift: c.number("shift")?,
        scale: c.number("scale")?,
        layout: c.layout("")?,
        out: c.out("out")?,
        out_scale: None,
        shared_mean: None,
    };
    Ok((Op::NormModulate(op), vec![("out", op.out)]))
}

fn qk_norm_rope(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let heads = c.number("heads")?;
    let pairs =
        if c.text("pairs").is_ok_and(|pairs| pairs == "halves") { RopePairs::Halves } else { RopePairs::Adjacent };
    let rope = Rope { table: c.x("rope")?, rows: c.number("rotated_rows")?, pairs };
    let op = QkNormRope {
        qkv: c.x("qkv")?,
        out: None,
        q_weight: c.w("q_weight")?,
        k_weight: c.w("k_weight")?,
        eps: c.number("eps")?,
        heads,
        kv_heads: if c.text("kv_heads").is_ok() { c.number("kv_heads")? } else { heads },
        rope: Some(rope),
    };
    Ok((Op::QkNormRope(op), vec![("qkv", op.qkv)]))
}

fn attention(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let op = Attention {
        q: c.x("q")?,
        k: c.x("k")?,
        v: c.x("v")?,
        heads: c.number("heads")?,
        queries: c.layout("queries.")?,
        keys: c.layout("keys.")?,
        products: DType::F32,
        out: c.out("out")?,
    };
    Ok((Op::Attention(op), vec![("out", op.out)]))
}

fn causal_attention(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let op = CausalAttention {
        q: c.x("q")?,
        k: c.x("k")?,
        v: c.x("v")?,
        heads: c.number("heads")?,
        kv_heads: c.number("kv_heads")?,
        lengths: c.x("lengths")?,
        out: c.out("out")?,
    };
    Ok((Op::CausalAttention(op), vec![("out", op.out)]))
}

fn rms_norm(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, weight, eps) = (c.x("x")?, c.w("weight")?, c.number("eps")?);
    let (position, out) = (c.optional(Region::Weights, "position")?, c.out("out")?);
    Ok((Op::RmsNorm(RmsNorm { x, weight, eps, position, out, out_scale: None }), vec![("out", out)]))
}

fn layer_norm(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, eps, out) = (c.x("x")?, c.number("eps")?, c.out("out")?);
    Ok((Op::LayerNorm(LayerNorm { x, eps, out, out_scale: None }), vec![("out", out)]))
}

fn gather_rows(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, index, count, out) = (c.w("x")?, c.x("index")?, c.number("count")?, c.out("out")?);
    Ok((Op::GatherRows(GatherRows { x, index, count, out }), vec![("out", out)]))
}

fn dequantize_blocks(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, out) = (c.w("x")?, c.out("out")?);
    Ok((Op::DequantizeBlocks(DequantizeBlocks { x, out }), vec![("out", out)]))
}

fn swiglu(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, out) = (c.x("x")?, c.out("out")?);
    Ok((Op::Swiglu(Swiglu { x, out, out_scale: None, rotated: false }), vec![("out", out)]))
}

fn quantize_rows(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let (x, out, out_scale) = (c.x("x")?, c.out("out")?, c.out("out_scale")?);
    Ok((
        Op::QuantizeRows(QuantizeRows { x, out, out_scale, shared_mean: None, rotated: false }),
        vec![("out_scale", out_scale), ("out", out)],
    ))
}

fn solver_step(c: &mut Case<'_>) -> Result<(Op, Outputs), Error> {
    let values = StepValues {
        advance: c.velocities("advance")?,
        look_ahead: c.velocities("look_ahead")?,
        remaining: c.number("remaining")?,
        guidance: c.number("guidance")?,
        slot: c.number("slot")?,
    };
    let (x, x_eval, x_hat, velocity) = (c.x("x")?, c.x("x_eval")?, c.x("x_hat")?, c.x("velocity")?);
    let bytes = step_bytes(&values);
    let step = c.memory.tensor(Region::Arena, DType::U32, (1, bytes.len() / 4), &bytes);
    let outputs = vec![("x", x), ("x_eval", x_eval), ("velocity", velocity), ("x_hat", x_hat.rows_from(0, x.rows))];
    Ok((Op::SolverStep(SolverStep { x, x_eval, x_hat, velocity, step }), outputs))
}

/// Eleven words, as the kernel reads them.
fn step_bytes(values: &StepValues) -> Vec<u8> {
    let floats = values.advance.iter().chain(&values.look_ahead).chain([&values.remaining, &values.guidance]);
    floats.map(|v| v.to_bits()).chain([values.slot]).flat_map(u32::to_le_bytes).collect()
}
