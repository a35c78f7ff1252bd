//! Small cases that a device's kernels are checked with when it is opened: drivers are not always right.

use crate::backend::{Backend, OpError, Program, run};
use crate::ops::{Attention, Bounds, Epilogue, Linear, Memory, Op};
use crate::{DType, Region, TokenLayout, View, Weight};

/// Rows, columns and depth of a product that fills no tile.
pub const PRODUCT: [usize; 3] = [70, 131, 150];
/// Tokens of attention that fill no tile, of an image and beside it; images, heads.
const TOKENS: usize = 37;
const CONTEXT: usize = 3;
const IMAGES: usize = 2;
const HEADS: usize = 2;
/// ‖Δ‖² / ‖reference‖² at most: operands are the same on both sides, so that only the order of sums differs, and
/// what tensor cores truncate.
const EXACT: f64 = 1e-10;
/// The same where factors may be rounded to bf16, or products and short sums to f16.
const ROUNDED: f64 = 1e-5;
/// Where views start: multiples of this.
const ALIGN: usize = 256;

/// A kernel, what it reads and what it writes.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The descriptor.
    pub op: Op,
    inputs: [Option<View>; 4],
    /// f32, without padding.
    pub out: View,
    limit: f64,
    /// Of the factors.
    exponent: i8,
}

impl Case {
    /// `x · wᵀ` with operands of this type, of `[m, n, k]`; rows of `x` start `stride` elements apart.
    pub fn product(dtype: DType, [m, n, k]: [usize; 3], stride: usize) -> Case {
        let x = View { stride, ..View::dense(Region::Arena, dtype, 0, m, k) };
        let w = View::dense(Region::Weights, dtype, 0, n, k);
        let x_scale = View::dense(Region::Arena, DType::F32, after(&x), 1, m);
        let w_scale = View::dense(Region::Weights, DType::F32, after(&w), 1, n);
        let out = View::dense(Region::Arena, DType::F32, after(&x_scale), m, n);
        let scaled = |scale| Some(scale).filter(|_| dtype == DType::I8);
        let op = Linear {
            x,
            x_scale: scaled(x_scale),
            shared_mean: None,
            w: Weight { data: w, scale: scaled(w_scale), residual: None },
            bias: None,
            out,
            epilogue: Epilogue::Store,
        };
        let inputs = [Some(x), Some(w), op.x_scale, op.w.scale];
        Case { op: Op::Linear(op), inputs, out, limit: EXACT, exponent: 0 }
    }

    /// The same of bf16 operands of `2^exponent` to twice that, which the device may multiply in f16.
    pub fn rounded_product(sizes: [usize; 3], exponent: i8) -> Case {
        Case { limit: ROUNDED, exponent, ..Case::product(DType::BF16, sizes, sizes[2]) }
    }

    /// Attention of all tokens to all tokens of an image, from queries, keys and values of this type side by side.
    pub fn attention(head_dim: usize, dtype: DType, products: DType) -> Case {
        let layout = TokenLayout { images: IMAGES, image_tokens: TOKENS, context_tokens: CONTEXT };
        let width = HEADS * head_dim;
        let qkv = View::dense(Region::Arena, dtype, 0, layout.rows(), 3 * width);
        let part = |i| qkv.cols_from(i * width, width);
        let out = View::dense(Region::Arena, DType::F32, after(&qkv), layout.rows(), width);
        let (q, k, v) = (part(0), part(1), part(2));
        let op = Attention { q, k, v, heads: HEADS, queries: layout, keys: layout, products, out };
        let limit = if products == DType::F32 { EXACT } else { ROUNDED };
        Case { op: Op::Attention(op), inputs: [Some(qkv), None, None, None], out, limit, exponent: 0 }
    }

    /// Sizes of both regions.
    pub fn bounds(&self) -> Bounds {
        let end = |region| {
            let views = self.inputs.iter().flatten().chain([&self.out]).filter(|view| view.region == region);
            views.map(|view| view.offset + view.len_bytes().unwrap_or(0)).max().unwrap_or(0)
        };
        Bounds { weights: end(Region::Weights), arena: end(Region::Arena) }
    }

    /// Fills both regions: operands of a few small values, exact in every type, and NaN where the result is to come.
    ///
    /// # Panics
    /// Where the regions are smaller than [`bounds`](Case::bounds).
    pub fn fill(&self, weights: &mut [u8], arena: &mut [u8]) {
        let mut seed = 1u32;
        for view in self.inputs.iter().flatten() {
            let region = if view.region == Region::Weights { &mut *weights } else { &mut *arena };
            let bytes = &mut region[view.offset..][..view.len_bytes().unwrap_or(0)];
            fill(bytes, view.dtype, self.exponent, &mut seed);
        }
        arena[self.out.offset..].fill(0xff);
    }

    /// Bytes of the output.
    pub fn out_bytes(&self) -> usize {
        self.out.rows * self.out.cols * size_of::<f32>()
    }

    /// Runs the case on a backend that was opened over its weights and an arena of its size: the arena's first bytes
    /// in, the output's first bytes out, up to [`out_bytes`](Case::out_bytes). A second run replays the first.
    ///
    /// # Errors
    /// What the device reports.
    /// # Panics
    /// Where the backend has other regions.
    pub fn run<B: Backend>(&self, backend: &mut B, arena: &[u8], out: &mut [u8]) -> Result<(), B::Error> {
        let all = View::dense(Region::Arena, DType::I8, 0, 1, arena.len());
        let done = backend.write(&all, arena).and_then(|()| {
            run(backend, Program::replayed("self_test", [0; 2]), |k| k.op(&self.op))?;
            backend.read(&self.out, out)
        });
        done.map_err(|e| match e {
            OpError::Device(e) => e,
            OpError::Invalid(_) | OpError::Form(_) => panic!("the backend does not fit the case: {:?}", self.op),
        })
    }

    /// Whether the output's bytes agree with the reference, which runs on the filled regions. NaN does not.
    ///
    /// # Panics
    /// Where the regions are smaller than [`bounds`](Case::bounds).
    pub fn agrees(&self, weights: &[u8], arena: &mut [u8], got: &[u8]) -> bool {
        let mut reference = Memory { weights, arena };
        self.op.reference(&mut reference);
        let (mut error, mut norm) = (0.0, 0.0);
        for (i, bytes) in got.as_chunks::<4>().0.iter().enumerate() {
            let want = reference.load(&self.out, i / self.out.cols, i % self.out.cols);
            let got = f64::from(f32::from_le_bytes(*bytes));
            error += (got - want) * (got - want);
            norm += want * want;
        }
        got.len() == self.out_bytes() && error <= self.limit * norm
    }
}

/// Where a view of the same region may start.
fn after(view: &View) -> usize {
    (view.offset + view.len_bytes().unwrap_or(0)).next_multiple_of(ALIGN)
}

fn fill(bytes: &mut [u8], dtype: DType, exponent: i8, seed: &mut u32) {
    for element in bytes.chunks_exact_mut(dtype.size()) {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let small = (*seed >> 24) as u8;
        // ±1 to ±1.97 in steps of 1/32, times a power of two in bf16: the sign, the exponent, five bits of fraction.
        let (sign, fraction) = (u16::from(small & 0x80) << 8, u16::from(small & 31));
        match dtype {
            DType::I8 => element[0] = small,
            DType::F16 => element.copy_from_slice(&(sign | 15 << 10 | fraction << 5).to_le_bytes()),
            DType::BF16 => {
                let exponent = (127 + i16::from(exponent)) as u16;
                element.copy_from_slice(&(sign | exponent << 7 | fraction << 2).to_le_bytes());
            }
            DType::F32 | DType::U32 => {
                element.copy_from_slice(&(u32::from(sign | 127 << 7 | fraction << 2) << 16).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn the_reference_agrees_with_itself_and_not_with_less() {
        for case in [Case::product(DType::I8, PRODUCT, 192), Case::attention(16, DType::F32, DType::F32)] {
            let Bounds { weights, arena } = case.bounds();
            let (mut weights, mut arena) = (vec![0; weights], vec![0; arena]);
            case.fill(&mut weights, &mut arena);
            let mut done = arena.clone();
            let bytes = case.out.offset..case.out.offset + 4 * case.out.rows * case.out.cols;
            assert!(!case.agrees(&weights, &mut done, &arena[bytes.clone()]), "NaN agrees");
            let mut got = vec![0; bytes.len()];
            let out = Memory { weights: &[], arena: &mut done };
            for (i, element) in got.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *element = (out.load(&case.out, i / case.out.cols, i % case.out.cols) as f32).to_le_bytes();
            }
            assert!(case.agrees(&weights, &mut arena.clone(), &got));
            got.truncate(4);
            assert!(!case.agrees(&weights, &mut arena, &got), "an output that is not whole");
        }
    }
}
