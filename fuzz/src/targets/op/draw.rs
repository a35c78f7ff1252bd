//! Descriptors that are valid: shapes that go together, views at any element boundary, rows padded or not.

use denoir_core::ops::*;
use denoir_core::{DType, Modulation, QuantResidual, Region, TokenLayout, View, Weight};

use crate::input::Input;

/// Types of weights and activations.
const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
const TYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I8];
/// Values added under square roots.
const EPS: [f32; 2] = [1e-5, 1e-2];

/// Chooses a descriptor and places its views one after another.
pub(super) struct Draw<'d, 'i> {
    input: &'d mut Input<'i>,
    weights: usize,
    arena: usize,
}

impl<'d, 'i> Draw<'d, 'i> {
    pub(super) fn new(input: &'d mut Input<'i>) -> Draw<'d, 'i> {
        Draw { input, weights: 0, arena: 0 }
    }

    /// The sizes of both regions, which end where their last view does.
    pub(super) fn regions(&self) -> (usize, usize) {
        (self.weights.max(1), self.arena.max(1))
    }

    pub(super) fn op(&mut self) -> Op {
        match self.input.below(16) {
            0 => self.linear().into(),
            1 => self.class_condition().into(),
            2 => self.context_tokens().into(),
            3 => self.patchify().into(),
            4 => self.unpatchify().into(),
            5 => self.norm_modulate().into(),
            6 => self.rms_norm().into(),
            7 => self.layer_norm().into(),
            8 => self.qk_norm_rope().into(),
            9 => self.attention().into(),
            10 => self.causal_attention().into(),
            11 => self.swiglu().into(),
            12 => self.quantize_rows().into(),
            13 => self.gather_rows().into(),
            14 => self.dequantize_blocks().into(),
            _ => self.solver_step().into(),
        }
    }

    /// 1 to `n`.
    fn size(&mut self, n: usize) -> usize {
        1 + self.input.below(n)
    }

    fn place(&mut self, region: Region, dtype: DType, rows: usize, cols: usize) -> View {
        let stride = cols + self.input.pick(&[0, 0, 1, 16]);
        let gap = self.input.below(4) * dtype.size();
        let end = match region {
            Region::Weights => &mut self.weights,
            Region::Arena => &mut self.arena,
        };
        let offset = end.next_multiple_of(dtype.size()) + gap;
        let view = View { region, dtype, offset, rows, cols, stride };
        *end = offset + view.len_bytes().expect("a small view");
        view
    }

    fn x(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        self.place(Region::Arena, dtype, rows, cols)
    }

    fn vector(&mut self, cols: usize) -> View {
        self.place(Region::Weights, DType::F32, 1, cols)
    }

    fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> Weight {
        let data = self.place(Region::Weights, dtype, rows, cols);
        let scale = (dtype == DType::I8).then(|| self.vector(rows));
        let residual = (dtype == DType::I8 && self.input.flag())
            .then(|| self.place(Region::Weights, DType::I8, 1, rows * QuantResidual::bytes(cols)).offset);
        Weight { data, scale, residual }
    }

    fn table(&mut self, rows: usize, cols: usize) -> View {
        let dtype = self.input.pick(&FLOATS);
        self.place(Region::Weights, dtype, rows, cols)
    }

    fn layout(&mut self, images: usize, tokens: usize) -> TokenLayout {
        let image_tokens = self.size(tokens);
        TokenLayout { images, image_tokens, context_tokens: self.input.below(4) }
    }

    fn modulation(&mut self, images: usize, width: usize) -> (Modulation, usize) {
        let (rows, first) = (self.size(4), self.input.below(5));
        let table = self.x(DType::F32, rows, first + width);
        (Modulation { table, rows: self.x(DType::U32, 1, images) }, first)
    }

    fn shared_mean(&mut self, layout: TokenLayout, cols: usize) -> SharedMean {
        let row = self.x(DType::I8, layout.images, cols);
        let scale = self.x(DType::F32, 1, layout.images);
        SharedMean { row, scale, value: self.x(DType::F32, layout.images, cols), layout }
    }

    fn out_scale(&mut self, out: &View) -> Option<View> {
        (out.dtype == DType::I8).then(|| self.x(DType::F32, 1, out.rows))
    }

    fn linear(&mut self) -> Linear {
        let images = self.size(3);
        let layout = self.layout(images, 6);
        let (m, k, n) = (layout.rows(), self.size(150), self.size(40));
        let dtype = self.input.pick(&TYPES);
        let x_type = if dtype != DType::I8 && self.input.flag() { DType::F32 } else { dtype };
        let x = self.x(x_type, m, k);
        let x_scale = (dtype == DType::I8).then(|| self.x(DType::F32, 1, m));
        let shared_mean = (dtype == DType::I8 && self.input.flag()).then(|| self.shared_mean(layout, k));
        let w = self.weight(dtype, n, k);
        let bias = self.input.flag().then(|| self.vector(n));
        let epilogue = match self.input.below(6) {
            0 => Epilogue::Store,
            1 => Epilogue::Silu,
            2 => Epilogue::Residual,
            3 => {
                let period = self.size(5);
                Epilogue::AddPeriodic(self.place(Region::Weights, DType::F32, period, n))
            }
            4 => {
                let gate = self.weight(dtype, n, k);
                Epilogue::Swiglu { gate, bias: self.input.flag().then(|| self.vector(n)) }
            }
            _ => {
                let (modulation, gate) = self.modulation(images, n);
                Epilogue::GatedResidual { modulation, gate, layout }
            }
        };
        let out_type = match epilogue {
            Epilogue::Swiglu { .. } => self.input.pick(&FLOATS),
            _ => DType::F32,
        };
        Linear { x, x_scale, shared_mean, w, bias, out: self.x(out_type, m, n), epilogue }
    }

    fn class_condition(&mut self) -> ClassCondition {
        let (times, labels, classes, hidden) = (self.size(4), self.size(4), self.size(5), self.size(70));
        ClassCondition {
            t_emb: self.x(DType::F32, times, hidden),
            table: self.table(classes, hidden),
            labels: self.x(DType::U32, 1, labels),
            out: self.x(DType::F32, times * labels, hidden),
        }
    }

    fn context_tokens(&mut self) -> ContextTokens {
        let (images, count, classes, hidden) = (self.size(4), self.size(4), self.size(5), self.size(70));
        ContextTokens {
            table: self.table(classes, hidden),
            position: self.place(Region::Weights, DType::F32, count, hidden),
            labels: self.x(DType::U32, 1, images),
            out: self.x(DType::F32, images * count, hidden),
        }
    }

    fn patchify(&mut self) -> Patchify {
        let (grid, patch, channels) = (self.size(4), self.size(5), self.size(4));
        let (sources, images, cols) = (self.size(2), self.size(4), channels * patch * patch);
        let image = self.x(DType::F32, sources, cols * grid * grid);
        let dtype = self.input.pick(&FLOATS);
        Patchify { image, grid, patch, out: self.x(dtype, images * grid * grid, cols) }
    }

    fn unpatchify(&mut self) -> Unpatchify {
        let (grid, patch, channels) = (self.size(4), self.size(5), self.size(4));
        let (images, cols) = (self.size(3), channels * patch * patch);
        let order = self.input.pick(&[PixelOrder::ChannelLast, PixelOrder::ChannelFirst]);
        let x = self.x(DType::F32, images * grid * grid, cols);
        Unpatchify { x, grid, patch, order, out: self.x(DType::F32, images, cols * grid * grid) }
    }

    fn norm_modulate(&mut self) -> NormModulate {
        let images = self.size(3);
        let (layout, hidden) = (self.layout(images, 40), self.size(70));
        let rows = layout.rows();
        let x = self.x(DType::F32, rows, hidden);
        let weight = self.vector(hidden);
        let (modulation, shift) = self.modulation(images, 2 * hidden);
        let dtype = self.input.pick(&TYPES);
        let out = self.x(dtype, rows, hidden);
        let out_scale = self.out_scale(&out);
        let shared_mean = (dtype == DType::I8 && self.input.flag()).then(|| self.shared_mean(layout, hidden));
        let (eps, scale) = (self.input.pick(&EPS), shift + hidden);
        NormModulate { x, weight, eps, modulation, shift, scale, layout, out, out_scale, shared_mean }
    }

    fn rms_norm(&mut self) -> RmsNorm {
        let (rows, hidden) = (self.size(9), self.size(70));
        let x = self.x(DType::F32, rows, hidden);
        let weight = self.vector(hidden);
        let position = self.input.flag().then(|| {
            let period = self.size(5);
            self.place(Region::Weights, DType::F32, period, hidden)
        });
        let dtype = self.input.pick(&TYPES);
        let out = self.x(dtype, rows, hidden);
        RmsNorm { x, weight, eps: self.input.pick(&EPS), position, out, out_scale: self.out_scale(&out) }
    }

    fn layer_norm(&mut self) -> LayerNorm {
        let (rows, hidden, dtype) = (self.size(9), self.size(70), self.input.pick(&TYPES));
        let x = self.x(DType::F32, rows, hidden);
        let out = self.x(dtype, rows, hidden);
        LayerNorm { x, eps: self.input.pick(&EPS), out, out_scale: self.out_scale(&out) }
    }

    fn qk_norm_rope(&mut self) -> QkNormRope {
        let (rows, heads, kv_heads, head_dim) = (self.size(9), self.input.below(4), self.size(3), 2 * self.size(36));
        let values = self.input.below(9);
        let qkv = self.x(DType::F32, rows, (heads + kv_heads) * head_dim + values);
        let (q_weight, k_weight) = (self.vector(head_dim), self.vector(head_dim));
        let rope = self.input.flag().then(|| {
            let tokens = self.size(9);
            let table = self.x(DType::F32, tokens, head_dim);
            let pairs = self.input.pick(&[RopePairs::Adjacent, RopePairs::Halves]);
            Rope { table, rows: self.input.below(rows + 1), pairs }
        });
        QkNormRope { qkv, out: None, q_weight, k_weight, eps: self.input.pick(&EPS), heads, kv_heads, rope }
    }

    fn attention(&mut self) -> Attention {
        let (images, heads, head_dim) = (self.size(3), self.size(3), self.size(70));
        let (queries, keys) = (self.layout(images, 20), self.layout(images, 20));
        let width = heads * head_dim;
        let q = self.x(DType::F32, queries.rows(), width);
        let (k, v) = (self.x(DType::F32, keys.rows(), width), self.x(DType::F32, keys.rows(), width));
        let (products, dtype) = (self.input.pick(&[DType::F32, DType::BF16]), self.input.pick(&FLOATS));
        let out = self.x(dtype, queries.rows(), width);
        Attention { q, k, v, heads, queries, keys, products, out }
    }

    fn causal_attention(&mut self) -> CausalAttention {
        let (sequences, tokens, kv_heads, head_dim) = (self.size(3), self.size(9), self.size(3), self.size(70));
        let (rows, heads) = (sequences * tokens, kv_heads * self.size(3));
        let q = self.x(DType::F32, rows, heads * head_dim);
        let k = self.x(DType::F32, rows, kv_heads * head_dim);
        let v = self.x(DType::F32, rows, kv_heads * head_dim);
        let lengths = self.x(DType::U32, 1, sequences);
        let dtype = self.input.pick(&FLOATS);
        CausalAttention { q, k, v, heads, kv_heads, lengths, out: self.x(dtype, rows, heads * head_dim) }
    }

    fn swiglu(&mut self) -> Swiglu {
        let (rows, half, dtype) = (self.size(9), self.size(70), self.input.pick(&TYPES));
        let x = self.x(DType::F32, rows, 2 * half);
        let out = self.x(dtype, rows, half);
        Swiglu { x, out, out_scale: self.out_scale(&out), rotated: self.input.flag() }
    }

    fn quantize_rows(&mut self) -> QuantizeRows {
        let images = self.size(3);
        let (layout, cols, rotated) = (self.layout(images, 40), self.size(70), self.input.flag());
        let x = self.x(DType::F32, layout.rows(), cols);
        let out = self.x(DType::I8, layout.rows(), cols);
        let out_scale = self.x(DType::F32, 1, layout.rows());
        let shared_mean = (!rotated && self.input.flag()).then(|| self.shared_mean(layout, cols));
        QuantizeRows { x, out, out_scale, shared_mean, rotated }
    }

    fn gather_rows(&mut self) -> GatherRows {
        let (groups, count, picks, cols) = (self.size(4), self.size(4), self.size(4), self.size(70));
        let dtype = self.input.pick(&TYPES);
        let region = self.input.pick(&[Region::Weights, Region::Arena]);
        let x = self.place(region, dtype, groups * count, cols);
        let index = self.x(DType::U32, 1, picks);
        let out = self.x(if dtype == DType::I8 { dtype } else { DType::F32 }, picks * count, cols);
        GatherRows { x, index, count, out }
    }

    fn dequantize_blocks(&mut self) -> DequantizeBlocks {
        let (rows, blocks) = (self.size(9), self.size(5));
        let x = self.place(Region::Weights, DType::I8, rows, blocks * BLOCK_BYTES);
        DequantizeBlocks { x, out: self.x(DType::F32, rows, blocks * BLOCK) }
    }

    fn solver_step(&mut self) -> SolverStep {
        let (images, pixels, branches) = (self.size(3), self.size(100), self.size(2));
        SolverStep {
            x: self.x(DType::F32, images, pixels),
            x_eval: self.x(DType::F32, images, pixels),
            x_hat: self.x(DType::F32, branches * images, pixels),
            velocity: self.x(DType::F32, HISTORY * images, pixels),
            step: self.x(DType::U32, 1, size_of::<StepValues>() / 4),
        }
    }
}
