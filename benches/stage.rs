//! One kernel and the memory that it works in, on one thread of the CPU.

use denoir::{AlignedBytes, Isa};
use denoir_core::QuantResidual;
use denoir_core::backend::{Program, run};
use denoir_core::cpu::{Cpu, pack, packed_bytes};
use denoir_core::ops::{
    Attention, Epilogue, Linear, NormModulate, Op, QkNormRope, QuantizeRows, Rope, RopePairs, SharedMean,
};
use denoir_core::{DType, Modulation, Region, Serial, TokenLayout, View, Weight};

/// A kernel, ready to run.
pub struct Stage {
    op: Op,
    isa: Isa,
    file: AlignedBytes,
    arena: AlignedBytes,
    packed: AlignedBytes,
    scratch: AlignedBytes,
    /// Operations of one run: 2 for a multiplication and an addition.
    pub flop: f64,
}

/// What a block's linear layer does beside multiplying.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Nothing.
    Plain,
    /// int8: it multiplies what the rows have in common apart.
    Centred,
    /// The same, and its second half is gated by the first.
    Gated,
}

/// Hands out both regions from their starts.
#[derive(Default)]
struct Layout {
    weights: usize,
    arena: usize,
}

impl Layout {
    /// A matrix whose rows start at multiples of 64 elements, and not pages apart, where `padded`.
    fn view(&mut self, region: Region, dtype: DType, [rows, cols]: [usize; 2], padded: bool) -> View {
        let end = if region == Region::Weights { &mut self.weights } else { &mut self.arena };
        let stride = if padded { cols.next_multiple_of(64) } else { cols };
        let stride = if padded && stride.is_multiple_of(1024) { stride + 64 } else { stride };
        let view = View { stride, ..View::dense(region, dtype, *end, rows, cols) };
        *end = (*end + rows * stride * dtype.size()).next_multiple_of(64);
        view
    }

    fn arena(&mut self, dtype: DType, shape: [usize; 2]) -> View {
        self.view(Region::Arena, dtype, shape, false)
    }

    fn weights(&mut self, dtype: DType, shape: [usize; 2]) -> View {
        self.view(Region::Weights, dtype, shape, false)
    }

    /// Activations for a linear layer, and the scales of int8.
    fn activations(&mut self, dtype: DType, shape: [usize; 2]) -> (View, Option<View>) {
        let view = self.view(Region::Arena, dtype, shape, true);
        (view, (dtype == DType::I8).then(|| self.arena(DType::F32, [1, shape[0]])))
    }

    /// What the rows of one image have in common.
    fn shared_mean(&mut self, tokens: usize, hidden: usize) -> SharedMean {
        let row = self.view(Region::Arena, DType::I8, [1, hidden], true);
        let (scale, value) = (self.arena(DType::F32, [1, 1]), self.arena(DType::F32, [1, hidden]));
        SharedMean { row, scale, value, layout: one_image(tokens) }
    }

    fn stage(self, op: Op, isa: Isa, flop: f64) -> Stage {
        let memory = |len| AlignedBytes::zeroed(len).expect("memory for a benchmark");
        let (file, arena) = (memory(self.weights), memory(self.arena));
        let scratch = memory(isa.scratch_bytes_of(&op, 1));
        Stage { op, isa, file, arena, packed: memory(0), scratch, flop }
    }
}

impl Stage {
    /// `(m, k) · (n, k)ᵀ` on packed weights of a type; activations are of the type that the instruction set wants.
    pub fn linear(isa: Isa, dtype: DType, layer: Layer, [m, n, k]: [usize; 3]) -> Stage {
        let mut l = Layout::default();
        let cols = if layer == Layer::Gated { n / 2 } else { n };
        let int8 = dtype == DType::I8;
        let mut weight = || {
            let data = l.weights(dtype, [cols, k]);
            let scale = int8.then(|| l.weights(DType::F32, [1, cols]));
            let residual =
                (int8 && layer != Layer::Plain).then(|| l.weights(DType::I8, [cols, QuantResidual::bytes(k)]).offset);
            Weight { data, scale, residual }
        };
        let (w, gate) = (weight(), (layer == Layer::Gated).then(weight));
        let (x, x_scale) = l.activations(isa.precision().input_of(&w), [m, k]);
        let out = l.arena(DType::F32, [m, cols]);
        let shared_mean = (int8 && layer != Layer::Plain).then(|| l.shared_mean(m, k));
        let epilogue = gate.map_or(Epilogue::Store, |gate| Epilogue::Swiglu { gate, bias: None });
        let op = Linear { x, x_scale, shared_mean, w, bias: None, out, epilogue };
        let mut stage = l.stage(Op::Linear(op), isa, 2.0 * (m * n * k) as f64);
        let weights = [Some(w), gate].into_iter().flatten();
        let len = packed_bytes(weights.clone(), isa).expect("a size");
        stage.packed = AlignedBytes::zeroed(len).expect("memory for a benchmark");
        pack(stage.file.as_slice(), weights, isa, stage.packed.as_mut_slice(), &Serial, &mut |_| ());
        stage
    }

    /// Self-attention of one image; the softmax's operations do not count.
    pub fn attention(isa: Isa, products: DType, tokens: usize, heads: usize, head_dim: usize) -> Stage {
        let mut l = Layout::default();
        let width = heads * head_dim;
        let qkv = l.arena(DType::F32, [tokens, 3 * width]);
        let out = l.arena(DType::F32, [tokens, width]);
        let layout = one_image(tokens);
        let (q, k, v) = (qkv.cols_from(0, width), qkv.cols_from(width, width), qkv.cols_from(2 * width, width));
        let op = Attention { q, k, v, heads, queries: layout, keys: layout, products, out };
        l.stage(Op::Attention(op), isa, 4.0 * (tokens * tokens * width) as f64)
    }

    /// A norm with shift and scale, rounded to a type.
    pub fn norm_modulate(isa: Isa, out: DType, tokens: usize, hidden: usize) -> Stage {
        let mut l = Layout::default();
        let (x, weight) = (l.arena(DType::F32, [tokens, hidden]), l.weights(DType::F32, [1, hidden]));
        let (table, rows) = (l.arena(DType::F32, [1, 2 * hidden]), l.arena(DType::U32, [1, 1]));
        let (out, out_scale) = l.activations(out, [tokens, hidden]);
        let shared_mean = out_scale.is_some().then(|| l.shared_mean(tokens, hidden));
        let (modulation, layout) = (Modulation { table, rows }, one_image(tokens));
        let op = NormModulate {
            x,
            weight,
            eps: 1e-6,
            modulation,
            shift: 0,
            scale: hidden,
            layout,
            out,
            out_scale,
            shared_mean,
        };
        l.stage(Op::NormModulate(op), isa, 0.0)
    }

    /// The norms of queries and keys, and their rotation.
    pub fn qk_norm_rope(isa: Isa, tokens: usize, heads: usize, head_dim: usize) -> Stage {
        let mut l = Layout::default();
        let qkv = l.arena(DType::F32, [tokens, 3 * heads * head_dim]);
        let [q_weight, k_weight] = [(); 2].map(|()| l.weights(DType::F32, [1, head_dim]));
        let table = l.arena(DType::F32, [tokens, head_dim]);
        let rope = Some(Rope { table, rows: tokens, pairs: RopePairs::Adjacent });
        let op = QkNormRope { qkv, out: None, q_weight, k_weight, eps: 1e-6, heads, kv_heads: heads, rope };
        l.stage(Op::QkNormRope(op), isa, 0.0)
    }

    /// int8 rows from f32: rotated, or about what they have in common.
    pub fn quantize_rows(isa: Isa, tokens: usize, hidden: usize, rotated: bool) -> Stage {
        let mut l = Layout::default();
        let x = l.arena(DType::F32, [tokens, hidden]);
        let out = l.view(Region::Arena, DType::I8, [tokens, hidden], true);
        let out_scale = l.arena(DType::F32, [1, tokens]);
        let shared_mean = (!rotated).then(|| l.shared_mean(tokens, hidden));
        l.stage(Op::QuantizeRows(QuantizeRows { x, out, out_scale, shared_mean, rotated }), isa, 0.0)
    }

    /// Runs the kernel some times.
    pub fn run(&mut self, times: u64) {
        let cpu = Cpu::new(self.file.as_slice(), self.arena.as_mut_slice(), &Serial, self.isa).expect("aligned memory");
        let mut cpu = cpu.with_packed(self.packed.as_slice()).with_scratch(self.scratch.as_mut_slice());
        // One that is not replayed would leave packed weights alone, and multiply them as they lie in the file.
        let program = Program::replayed("stage", [0; 2]);
        let repeated = run(&mut cpu, program, |k| (0..times).try_for_each(|_| k.op(&self.op)));
        repeated.expect("a kernel that fits its regions");
    }
}

fn one_image(tokens: usize) -> TokenLayout {
    TokenLayout { images: 1, image_tokens: tokens, context_tokens: 0 }
}
