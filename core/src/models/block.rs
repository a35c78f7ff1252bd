//! The transformer block that the image networks share, as a flat list of kernels.

use crate::backend::{Backend, OpError, Recorder};
use crate::models::params::{BlockParams, Dense, GatedPair};
use crate::models::plan::{BlockPlan, typed};
use crate::ops::{Attention, Epilogue, Linear, NormModulate, QkNormRope, QuantizeRows, Rope, SharedMean, Swiglu};
use crate::tensor::Precision;
use crate::{DType, Modulation, TokenLayout, View, Weight};

/// The epsilon of every RMSNorm and LayerNorm in the image networks.
pub const EPS: f32 = 1e-6;

/// One pass of a token matrix through the blocks: the values common to all blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'p> {
    pub(crate) plan: &'p BlockPlan,
    pub(crate) precision: Precision,
    /// `(rows, hidden)` f32: the residual stream.
    pub(crate) tokens: View,
    /// Layout of the rows of `tokens`.
    pub(crate) queries: TokenLayout,
    /// Layout of the rows of keys and values: those of the tokens, then any that the network adds.
    pub(crate) keys: TokenLayout,
    pub(crate) heads: usize,
    pub(crate) rope: Option<Rope>,
    pub(crate) modulation: Modulation,
}

impl Pass<'_> {
    const fn hidden(&self) -> usize {
        self.tokens.cols
    }

    /// (q, k, v) = qkv(modulate(norm1(tokens))), then q = rope(norm(q)), k = rope(norm(k)); into what `attend` reads.
    /// `column`: the block's shift, scale and gate in the modulation table.
    pub(crate) fn project<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        block: &BlockParams,
        column: usize,
    ) -> Result<(), OpError<B::Error>> {
        let z = self.normed(k, block.norm1, column, &block.qkv.weight)?;
        let qkv = self.plan.qkv.rows_from(0, self.queries.rows());
        k.linear(&z.through(&block.qkv, qkv, Epilogue::Store))?;
        k.qk_norm_rope(&QkNormRope {
            qkv,
            out: self.plan.rounded_qkv.map(|out| out.rows_from(0, qkv.rows)),
            q_weight: block.q_norm,
            k_weight: block.k_norm,
            eps: EPS,
            heads: self.heads,
            kv_heads: self.heads,
            rope: self.rope,
        })
    }

    /// tokens += gate · proj(attention(q, k, v)), from `plan.attention_input`.
    pub(crate) fn attend<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        block: &BlockParams,
        column: usize,
    ) -> Result<(), OpError<B::Error>> {
        let (h, rows) = (self.hidden(), self.queries.rows());
        let dtype = self.precision.input_of(&block.proj.weight);
        let z = self.input(dtype);
        // An int8 row's scale needs all heads of the row, so attention's output is quantised by a kernel of its own.
        let attended = if dtype == DType::I8 { self.before_int8(self.plan.attended) } else { z.rows };
        let qkv = self.plan.attention_input();
        let keys = qkv.rows_from(0, self.keys.rows());
        k.attention(&Attention {
            q: qkv.rows_from(0, rows).cols_from(0, h),
            k: keys.cols_from(h, h),
            v: keys.cols_from(2 * h, h),
            heads: self.heads,
            queries: self.queries,
            keys: self.keys,
            products: self.precision.attention_before(&block.proj.weight),
            out: attended,
        })?;
        if let Some(out_scale) = z.scale {
            k.quantize_rows(&QuantizeRows {
                x: attended,
                out: z.rows,
                out_scale,
                shared_mean: z.shared_mean,
                rotated: false,
            })?;
        }
        k.linear(&z.through(&block.proj, self.tokens, self.gated(column)))
    }

    /// tokens += gate · w3(SiLU(a) · b),  (a, b) = w12(modulate(norm2(tokens)))
    pub(crate) fn feed_forward<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        block: &BlockParams,
        column: usize,
    ) -> Result<(), OpError<B::Error>> {
        let (column, rows) = (column + 3 * self.hidden(), self.queries.rows());
        let z = self.normed(k, block.norm2, column, &block.w12.both.weight)?;
        let dtype = self.precision.input_of(&block.w3.weight);
        let (out, out_scale) = typed(self.plan.ffn_z, self.plan.ffn_scale, dtype, rows);
        if self.precision.fused_swiglu {
            let GatedPair { gate, value, .. } = block.w12;
            let swiglu = Epilogue::Swiglu { gate: gate.weight, bias: gate.bias };
            // An int8 row's scale needs the whole row.
            let x = self.before_int8(self.plan.ffn);
            k.linear(&z.through(&value, if out_scale.is_some() { x } else { out }, swiglu))?;
            if let Some(out_scale) = out_scale {
                k.quantize_rows(&QuantizeRows { x, out, out_scale, shared_mean: None, rotated: block.rotated })?;
            }
        } else {
            let x = self.plan.ffn.rows_from(0, rows);
            k.linear(&z.through(&block.w12.both, x, Epilogue::Store))?;
            k.swiglu(&Swiglu { x, out, out_scale, rotated: block.rotated })?;
        }
        k.linear(&block.w3.of(out, out_scale, self.tokens, self.gated(column)))
    }

    /// modulate(norm(tokens)) in the input type of `next`; shift at `column`, scale after it.
    fn normed<B: Backend>(
        &self,
        k: &mut Recorder<'_, B>,
        weight: View,
        column: usize,
        next: &Weight,
    ) -> Result<Input, OpError<B::Error>> {
        let z = self.input(self.precision.input_of(next));
        k.norm_modulate(&NormModulate {
            x: self.tokens,
            weight,
            eps: EPS,
            modulation: self.modulation,
            shift: column,
            scale: column + self.hidden(),
            layout: self.queries,
            out: z.rows,
            out_scale: z.scale,
            shared_mean: z.shared_mean,
        })?;
        Ok(z)
    }

    /// The rows of an f32 buffer in the type of what becomes int8 in a kernel of its own.
    fn before_int8(&self, buffer: View) -> View {
        View { dtype: self.precision.before_int8(), ..buffer }.rows_from(0, self.queries.rows())
    }

    /// `plan.z` in this type.
    fn input(&self, dtype: DType) -> Input {
        let (rows, scale) = typed(self.plan.z, self.plan.z_scale, dtype, self.queries.rows());
        let shared_mean =
            self.plan.shared_mean.filter(|_| dtype == DType::I8).map(|shared_mean| shared_mean.of(self.queries));
        Input { rows, scale, shared_mean }
    }

    /// tokens += gate · y; the gate's column follows shift and scale.
    const fn gated(&self, column: usize) -> Epilogue {
        let gate = column + 2 * self.hidden();
        Epilogue::GatedResidual { modulation: self.modulation, gate, layout: self.queries }
    }
}

/// The input of a linear layer.
#[derive(Clone, Copy)]
struct Input {
    rows: View,
    scale: Option<View>,
    shared_mean: Option<SharedMean>,
}

impl Input {
    const fn through(&self, layer: &Dense, out: View, epilogue: Epilogue) -> Linear {
        Linear { shared_mean: self.shared_mean, ..layer.of(self.rows, self.scale, out, epilogue) }
    }
}
