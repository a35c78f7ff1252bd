use super::matrix::Source;
use super::memory::Arena;
use super::rounded::Rounded;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::built;
use crate::ops::{CausalAttention, MAX_HEAD_DIM};

pub(super) struct Kernel<'a> {
    q: Source<'a, f32>,
    k: Source<'a, f32>,
    v: Source<'a, f32>,
    heads: usize,
    kv_heads: usize,
    lengths: Source<'a, u32>,
    /// 1 / √head_dim
    scale: f32,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &CausalAttention, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            q: memory.source(&op.q),
            k: memory.source(&op.k),
            v: memory.source(&op.v),
            heads: op.heads,
            kv_heads: op.kv_heads,
            lengths: memory.source(&op.lengths),
            scale: 1.0 / libm::sqrtf((op.q.cols / op.heads) as f32),
            out: Rounded::new(memory, &op.out, None),
        }
    };
    (op.out.rows * op.heads, kernel)
}

impl Tiles for Kernel<'_> {
    const IS_BUILT: bool = built::TEXT;

    /// One query head of one token. Text is short and encoded once: key after key is fast enough.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let (row, head) = (index / self.heads, index % self.heads);
        let head_dim = self.q.cols / self.heads;
        let tokens = self.q.rows / self.lengths.cols;
        let (first, token) = (row / tokens * tokens, row % tokens);
        let visible = (token + 1).min(self.lengths.row(0)[row / tokens] as usize);
        let kv = head / (self.heads / self.kv_heads) * head_dim;
        let q = &self.q.row(row)[head * head_dim..][..head_dim];

        let mut sums = [0.0; MAX_HEAD_DIM];
        let sums = &mut sums[..head_dim];
        let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
        for key in first..first + visible {
            let score = dot(s, q, &self.k.row(key)[kv..][..head_dim]) * self.scale;
            let new_max = if score > max { score } else { max };
            let (shrink, weight) = (exp1(s, max - new_max), exp1(s, score - new_max));
            max = new_max;
            total = total * shrink + weight;
            let values = self.v.row(key)[kv..][..head_dim].chunks(S::LANES);
            for (sum, value) in sums.chunks_mut(S::LANES).zip(values) {
                let weighted = s.mul(s.load_some(value), s.splat(weight));
                s.store_some(sum, s.mul_add(s.load_some(sum), s.splat(shrink), weighted));
            }
        }
        let inverse = if visible == 0 { 0.0 } else { 1.0 / total };
        sums.iter_mut().for_each(|sum| *sum *= inverse);
        // SAFETY: a tile is one head of one row.
        unsafe { self.out.store_part(s, row, head * head_dim, sums) };
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for (a, b) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
        sum = s.mul_add(s.load_some(a), s.load_some(b), sum);
    }
    s.sum(sum)
}

#[inline(always)]
fn exp1<S: Simd>(s: S, x: f32) -> f32 {
    s.lanes(s.exp(s.splat(x)))[0]
}
