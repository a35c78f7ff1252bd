use super::Tiles;
use super::memory::{Arena, Source, Target};
use super::simd::Simd;
use crate::ops::QkNormRope;

pub(super) struct Kernel<'a> {
    qkv: Target<'a, f32>,
    weights: [Source<'a, f32>; 2],
    rope: Source<'a, f32>,
    eps: f32,
    heads: usize,
    rotated_rows: usize,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &QkNormRope, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // SAFETY: passed on.
    let kernel = unsafe {
        Kernel {
            qkv: memory.target(&op.qkv),
            weights: [memory.source(&op.q_weight), memory.source(&op.k_weight)],
            rope: memory.source(&op.rope),
            eps: op.eps,
            heads: op.heads,
            rotated_rows: op.rotated_rows,
        }
    };
    (op.qkv.rows, kernel)
}

impl Tiles for Kernel<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, r: usize) {
        let head_dim = self.rope.cols;
        for (part, weight) in self.weights.iter().map(|w| w.row(0)).enumerate() {
            // SAFETY: a tile is a row.
            let row = unsafe { self.qkv.part(r, part * self.heads * head_dim, self.heads * head_dim) };
            for head in row.chunks_exact_mut(head_dim) {
                let mean = s.sum_of_squares(head) / head_dim as f32;
                let inverse = s.splat(1.0 / libm::sqrtf(mean + self.eps));
                for (x, w) in head.chunks_mut(S::LANES).zip(weight.chunks(S::LANES)) {
                    s.store_some(x, s.mul(s.mul(s.load_some(x), inverse), s.load_some(w)));
                }
                if r < self.rotated_rows {
                    rotate(head, self.rope.row(r % self.rope.rows));
                }
            }
        }
    }
}

/// Rotates the channel pairs of a head by the angles of a row.
#[inline(always)]
fn rotate(head: &mut [f32], waves: &[f32]) {
    for (pair, wave) in head.as_chunks_mut::<2>().0.iter_mut().zip(waves.as_chunks::<2>().0) {
        let ([a, b], [cos, sin]) = (*pair, *wave);
        *pair = [a * cos - b * sin, b * cos + a * sin];
    }
}
