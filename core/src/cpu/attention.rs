use super::Tiles;
use super::memory::{Arena, Source};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use crate::TokenLayout;
use crate::ops::{Attention, MAX_HEAD_DIM};

/// Queries of a tile: they share each block of keys.
const QUERIES: usize = 32;
/// Keys of a block.
const KEYS: usize = 32;

pub(super) struct Kernel<'a> {
    q: Source<'a, f32>,
    k: Source<'a, f32>,
    v: Source<'a, f32>,
    heads: usize,
    queries: TokenLayout,
    keys: TokenLayout,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Attention, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe {
        Kernel {
            q: memory.source(&op.q),
            k: memory.source(&op.k),
            v: memory.source(&op.v),
            heads: op.heads,
            queries: op.queries,
            keys: op.keys,
            out: Rounded::new(memory, &op.out, None),
        }
    };
    (op.queries.images * op.heads * op.queries.tokens().div_ceil(QUERIES), kernel)
}

/// What a tile keeps on the stack, about 40 KiB.
struct Block {
    /// A block of keys, transposed: `(head_dim, KEYS)`.
    keys: [[f32; KEYS]; MAX_HEAD_DIM],
    /// `(QUERIES, head_dim)`: weighted sums of values so far.
    sums: [[f32; MAX_HEAD_DIM]; QUERIES],
    /// Largest score of each query so far.
    max: [f32; QUERIES],
    /// Sum of each query's weights so far.
    total: [f32; QUERIES],
}

impl Tiles for Kernel<'_> {
    /// Online softmax ("FlashAttention", arXiv 2205.14135): sums and totals are rescaled when a larger score comes.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let head_dim = self.q.cols / self.heads;
        let blocks = self.queries.tokens().div_ceil(QUERIES);
        let (image, head, first) = (index / blocks / self.heads, index / blocks % self.heads, index % blocks * QUERIES);
        let column = head * head_dim..(head + 1) * head_dim;
        let count = QUERIES.min(self.queries.tokens() - first);
        let scale = 1.0 / libm::sqrtf(head_dim as f32);
        let mut b = Block {
            keys: [[0.0; KEYS]; MAX_HEAD_DIM],
            sums: [[0.0; MAX_HEAD_DIM]; QUERIES],
            max: [f32::NEG_INFINITY; QUERIES],
            total: [0.0; QUERIES],
        };
        for start in (0..self.keys.tokens()).step_by(KEYS) {
            let width = KEYS.min(self.keys.tokens() - start);
            for j in 0..width {
                let key = &self.k.row(self.keys.row_of(image, start + j))[column.clone()];
                b.keys.iter_mut().zip(key).for_each(|(to, &x)| to[j] = x);
            }
            for i in 0..count {
                let q = &self.q.row(self.queries.row_of(image, first + i))[column.clone()];
                let mut weights = scores(s, q, &b.keys, scale);
                weights[width..].fill(f32::NEG_INFINITY);
                let max = weights.iter().copied().fold(b.max[i], |m, x| if x > m { x } else { m });
                let shrink = exp1(s, b.max[i] - max);
                let mut total = s.splat(0.0);
                for part in weights.chunks_exact_mut(S::LANES) {
                    let w = s.exp(s.sub(s.load_some(part), s.splat(max)));
                    s.store_some(part, w);
                }
                weights[width..].fill(0.0);
                for part in weights.chunks_exact(S::LANES) {
                    total = s.add(total, s.load_some(part));
                }
                b.total[i] = b.total[i] * shrink + s.sum(total);
                b.max[i] = max;
                let values = (0..width).map(|j| &self.v.row(self.keys.row_of(image, start + j))[column.clone()]);
                accumulate(s, &mut b.sums[i][..head_dim], shrink, &weights, values);
            }
        }
        for i in 0..count {
            let inverse = s.splat(1.0 / b.total[i]);
            let sums = &mut b.sums[i][..head_dim];
            for part in sums.chunks_mut(S::LANES) {
                s.store_some(part, s.mul(s.load_some(part), inverse));
            }
            // SAFETY: a tile is some queries of one head.
            unsafe { self.out.store_part(s, self.queries.row_of(image, first + i), column.start, sums) };
        }
    }
}

/// `q · keys · scale` for a block of keys.
#[inline(always)]
fn scores<S: Simd>(s: S, q: &[f32], keys: &[[f32; KEYS]; MAX_HEAD_DIM], scale: f32) -> [f32; KEYS] {
    let mut scores = [0.0; KEYS];
    // KEYS is 4 vectors of 8 lanes or 2 of 16; four sums cover both.
    let mut sums = [s.splat(0.0); 4];
    let vectors = KEYS / S::LANES;
    for (&x, keys) in q.iter().zip(keys) {
        let x = s.splat(x);
        for (sum, key) in sums[..vectors].iter_mut().zip(keys.chunks_exact(S::LANES)) {
            *sum = s.mul_add(x, s.load_some(key), *sum);
        }
    }
    for (to, sum) in scores.chunks_exact_mut(S::LANES).zip(sums) {
        s.store_some(to, s.mul(sum, s.splat(scale)));
    }
    scores
}

/// `sums = sums · shrink + Σ weight · value`
#[inline(always)]
fn accumulate<'v, S: Simd>(
    s: S,
    sums: &mut [f32],
    shrink: f32,
    weights: &[f32; KEYS],
    values: impl Iterator<Item = &'v [f32]> + Clone,
) {
    for start in (0..sums.len()).step_by(S::LANES) {
        let end = (start + S::LANES).min(sums.len());
        let mut sum = s.mul(s.load_some(&sums[start..end]), s.splat(shrink));
        for (&weight, value) in weights.iter().zip(values.clone()) {
            sum = s.mul_add(s.splat(weight), s.load_some(&value[start..end]), sum);
        }
        s.store_some(&mut sums[start..end], sum);
    }
}

#[inline(always)]
fn exp1<S: Simd>(s: S, x: f32) -> f32 {
    s.lanes(s.exp(s.splat(x)))[0]
}
