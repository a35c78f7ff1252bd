use super::matrix::{Source, Target};
use super::memory::Arena;
use super::simd::Simd;
use super::tiles::Tiles;
use crate::ops::{QkNormRope, RopePairs};

pub(super) struct Kernel<'a> {
    qkv: Target<'a, f32>,
    q_weight: Source<'a, f32>,
    k_weight: Source<'a, f32>,
    eps: f32,
    heads: usize,
    kv_heads: usize,
    rope: Option<Rope<'a>>,
}

struct Rope<'a> {
    table: Source<'a, f32>,
    rows: usize,
    pairs: RopePairs,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &QkNormRope, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        let rope =
            |rope: &crate::ops::Rope| Rope { table: memory.source(&rope.table), rows: rope.rows, pairs: rope.pairs };
        Kernel {
            qkv: memory.target(&op.qkv),
            q_weight: memory.source(&op.q_weight),
            k_weight: memory.source(&op.k_weight),
            eps: op.eps,
            heads: op.heads,
            kv_heads: op.kv_heads,
            rope: op.rope.as_ref().map(rope),
        }
    };
    (op.qkv.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let head_dim = self.q_weight.cols;
        let rope = self.rope.as_ref().filter(|rope| r < rope.rows);
        let waves = rope.map(|rope| (rope.pairs, rope.table.row(r % rope.table.rows)));
        // SAFETY: a tile is a row.
        let row = unsafe { self.qkv.part(r, 0, (self.heads + self.kv_heads) * head_dim) };
        let (queries, keys) = row.split_at_mut(self.heads * head_dim);
        for (heads, weight) in [(queries, &self.q_weight), (keys, &self.k_weight)] {
            for head in heads.chunks_exact_mut(head_dim) {
                let mean = s.sum_of_squares(head) / head_dim as f32;
                let inverse = s.inverse_root(mean + self.eps);
                match waves {
                    Some((RopePairs::Adjacent, waves)) => norm_and_rope(s, head, inverse, weight.row(0), waves),
                    Some((RopePairs::Halves, waves)) => {
                        norm(s, head, inverse, weight.row(0));
                        rope_halves(head, waves);
                    }
                    None => norm(s, head, inverse, weight.row(0)),
                }
            }
        }
    }
}

#[cfg_attr(feature = "simd", inline(always))]
fn norm<S: Simd>(s: S, head: &mut [f32], inverse: S::F32, weight: &[f32]) {
    for (x, w) in head.chunks_mut(S::LANES).zip(weight.chunks(S::LANES)) {
        s.store_some(x, s.mul(s.mul(s.load_some(x), inverse), s.load_some(w)));
    }
}

/// Norms a head and rotates its channel pairs `2k, 2k + 1` by the angles of a row.
#[cfg_attr(feature = "simd", inline(always))]
fn norm_and_rope<S: Simd>(s: S, head: &mut [f32], inverse: S::F32, weight: &[f32], waves: &[f32]) {
    let factors = weight.chunks(S::LANES).zip(waves.chunks(S::LANES));
    for (x, (w, waves)) in head.chunks_mut(S::LANES).zip(factors) {
        let normed = s.mul(s.mul(s.load_some(x), inverse), s.load_some(w));
        s.store_some(x, s.rope_pairs(normed, s.load_some(waves)));
    }
}

/// Rotates the channel pairs `k, k + head_dim / 2` of a head by the angles of a row.
#[cfg_attr(feature = "simd", inline(always))]
fn rope_halves(head: &mut [f32], waves: &[f32]) {
    let (first, second) = head.split_at_mut(head.len() / 2);
    for ((a, b), &[cos, sin]) in first.iter_mut().zip(second).zip(waves.as_chunks::<2>().0) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
