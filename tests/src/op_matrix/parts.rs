//! The parts of a descriptor, by name, for tests that corrupt them. Patterns name every field, so that a new one cannot
//! be forgotten.

use denoir_core::ops::*;
use denoir_core::{Modulation, TokenLayout, View, Weight};

/// A part and its name.
pub type Named<'a, T> = (&'static str, &'a mut T);

macro_rules! named {
    ($($field:ident)*) => {
        vec![$((stringify!($field), $field)),*]
    };
}

/// Every view that is there.
pub fn views(op: &mut Op) -> Vec<Named<'_, View>> {
    match op {
        Op::Linear(op) => linear_views(op),
        Op::ClassCondition(ClassCondition { t_emb, table, labels, out }) => named![t_emb table labels out],
        Op::ContextTokens(ContextTokens { table, position, labels, out }) => named![table position labels out],
        Op::Patchify(Patchify { image, grid: _, patch: _, out }) => named![image out],
        Op::Unpatchify(Unpatchify { x, grid: _, patch: _, order: _, out }) => named![x out],
        Op::NormModulate(NormModulate {
            x,
            weight,
            eps: _,
            modulation,
            shift: _,
            scale: _,
            layout: _,
            out,
            out_scale,
            shared_mean,
        }) => {
            let mut views = named![x weight out];
            views.extend(modulation_views(modulation));
            views.extend(optional(named![out_scale]));
            views.extend(shared_mean_views(shared_mean, OUT_SHARED_MEAN));
            views
        }
        Op::RmsNorm(RmsNorm { x, weight, eps: _, position, out, out_scale }) => {
            let mut views = named![x weight out];
            views.extend(optional(named![position out_scale]));
            views
        }
        Op::LayerNorm(LayerNorm { x, eps: _, out, out_scale }) => {
            let mut views = named![x out];
            views.extend(optional(named![out_scale]));
            views
        }
        Op::QkNormRope(QkNormRope { qkv, out, q_weight, k_weight, eps: _, heads: _, kv_heads: _, rope }) => {
            let mut views = named![qkv q_weight k_weight];
            views.extend(optional(named![out]));
            views.extend(rope.as_mut().map(|rope| ("rope", &mut rope.table)));
            views
        }
        Op::Attention(Attention { q, k, v, heads: _, queries: _, keys: _, products: _, out }) => named![q k v out],
        Op::CausalAttention(CausalAttention { q, k, v, heads: _, kv_heads: _, lengths, out }) => {
            named![q k v lengths out]
        }
        Op::Swiglu(Swiglu { x, out, out_scale, rotated: _ }) => {
            let mut views = named![x out];
            views.extend(optional(named![out_scale]));
            views
        }
        Op::QuantizeRows(QuantizeRows { x, out, out_scale, shared_mean, rotated: _ }) => {
            let mut views = named![x out out_scale];
            views.extend(shared_mean_views(shared_mean, OUT_SHARED_MEAN));
            views
        }
        Op::GatherRows(GatherRows { x, index, count: _, out }) => named![x index out],
        Op::DequantizeBlocks(DequantizeBlocks { x, out }) => named![x out],
        Op::SolverStep(SolverStep { x, x_eval, x_hat, velocity, step }) => named![x x_eval x_hat velocity step],
    }
}

fn linear_views(op: &mut Linear) -> Vec<Named<'_, View>> {
    let Linear { x, x_scale, shared_mean, w, bias, out, epilogue } = op;
    let Weight { data: w, scale: w_scale, residual: _ } = w;
    let mut views = named![x w out];
    views.extend(optional(named![x_scale w_scale bias]));
    views.extend(shared_mean_views(shared_mean, ["centre", "centre_scale", "centre_value"]));
    match epilogue {
        Epilogue::Store | Epilogue::Silu | Epilogue::Residual => {}
        Epilogue::Swiglu { gate, bias: gate_bias } => {
            let Weight { data: gate, scale: gate_scale, residual: _ } = gate;
            views.extend(named![gate]);
            views.extend(optional(named![gate_scale gate_bias]));
        }
        Epilogue::AddPeriodic(table) => views.extend(named![table]),
        Epilogue::GatedResidual { modulation, .. } => views.extend(modulation_views(modulation)),
    }
    views
}

/// Every number outside the views.
pub fn numbers(op: &mut Op) -> Vec<Named<'_, usize>> {
    match op {
        Op::Linear(Linear { epilogue, shared_mean, w: Weight { residual: w_rest, .. }, .. }) => {
            let mut numbers: Vec<_> =
                shared_mean.iter_mut().flat_map(|shared_mean| layout_numbers(&mut shared_mean.layout)).collect();
            numbers.extend(w_rest.as_mut().map(|rest| ("w_rest", rest)));
            match epilogue {
                Epilogue::GatedResidual { gate, layout, .. } => {
                    numbers.extend(named![gate]);
                    numbers.extend(layout_numbers(layout));
                }
                Epilogue::Swiglu { gate: Weight { residual: rest, .. }, .. } => {
                    numbers.extend(rest.as_mut().map(|rest| ("gate_rest", rest)));
                }
                _ => {}
            }
            numbers
        }
        Op::QuantizeRows(QuantizeRows { shared_mean, .. }) => {
            shared_mean.iter_mut().flat_map(|shared_mean| layout_numbers(&mut shared_mean.layout)).collect()
        }
        Op::Patchify(Patchify { grid, patch, .. }) | Op::Unpatchify(Unpatchify { grid, patch, .. }) => {
            named![grid patch]
        }
        Op::NormModulate(NormModulate { shift, scale, layout, shared_mean, .. }) => {
            let mut numbers = named![shift scale];
            numbers.extend(shared_mean.iter_mut().flat_map(|shared_mean| layout_numbers(&mut shared_mean.layout)));
            numbers.extend(layout_numbers(layout));
            numbers
        }
        Op::QkNormRope(QkNormRope { heads, kv_heads, rope, .. }) => {
            let mut numbers = named![heads kv_heads];
            numbers.extend(rope.as_mut().map(|rope| ("rotated_rows", &mut rope.rows)));
            numbers
        }
        Op::Attention(Attention { heads, queries, keys, .. }) => {
            let mut numbers = named![heads];
            numbers.extend(layout_numbers(queries));
            numbers.extend(layout_numbers(keys));
            numbers
        }
        Op::CausalAttention(CausalAttention { heads, kv_heads, .. }) => named![heads kv_heads],
        Op::GatherRows(GatherRows { count, .. }) => named![count],
        Op::ClassCondition(_)
        | Op::ContextTokens(_)
        | Op::RmsNorm(_)
        | Op::LayerNorm(_)
        | Op::Swiglu(_)
        | Op::DequantizeBlocks(_)
        | Op::SolverStep(_) => Vec::new(),
    }
}

/// Row scales, which are there exactly for int8.
pub fn scales(op: &mut Op) -> Vec<Named<'_, Option<View>>> {
    match op {
        Op::Linear(Linear { x_scale, w: Weight { scale: w_scale, .. }, .. }) => named![x_scale w_scale],
        Op::NormModulate(NormModulate { out_scale, .. })
        | Op::RmsNorm(RmsNorm { out_scale, .. })
        | Op::LayerNorm(LayerNorm { out_scale, .. })
        | Op::Swiglu(Swiglu { out_scale, .. }) => named![out_scale],
        _ => Vec::new(),
    }
}

/// Returns whether the kernel writes the view of this name.
pub fn writes(op: &Op, view: &str) -> bool {
    match op {
        Op::QkNormRope(_) => view == "qkv",
        Op::Swiglu(_) => true,
        Op::QuantizeRows(QuantizeRows { rotated: true, .. }) => true,
        Op::SolverStep(_) => view != "step",
        _ => view.starts_with("out"),
    }
}

fn optional<'a>(views: Vec<Named<'a, Option<View>>>) -> impl Iterator<Item = Named<'a, View>> {
    views.into_iter().filter_map(|(name, view)| Some((name, view.as_mut()?)))
}

/// A producer's names for the views of a shared mean.
const OUT_SHARED_MEAN: [&str; 3] = ["out_centre", "out_centre_scale", "out_centre_value"];

fn shared_mean_views<'a>(
    shared_mean: &'a mut Option<SharedMean>,
    names: [&'static str; 3],
) -> impl Iterator<Item = Named<'a, View>> {
    let views = shared_mean.iter_mut().flat_map(|SharedMean { row, scale, value, layout: _ }| [row, scale, value]);
    names.into_iter().zip(views)
}

fn modulation_views(modulation: &mut Modulation) -> Vec<Named<'_, View>> {
    let Modulation { table, rows } = modulation;
    vec![("modulation", table), ("modulation_rows", rows)]
}

fn layout_numbers(layout: &mut TokenLayout) -> Vec<Named<'_, usize>> {
    let TokenLayout { images, image_tokens, context_tokens } = layout;
    named![images image_tokens context_tokens]
}
