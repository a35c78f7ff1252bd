use super::Tiles;
use super::memory::{Arena, Source};
use super::quantize_rows::Rounded;
use super::simd::Simd;
use super::simd::product::{Columns, Row};
use crate::TokenLayout;
use crate::ops::{Attention, MAX_HEAD_DIM};

/// Keys of a block.
const KEYS: usize = 48;

pub(super) struct Kernel<'a> {
    q: Source<'a, f32>,
    k: Source<'a, f32>,
    v: Source<'a, f32>,
    heads: usize,
    queries: TokenLayout,
    keys: TokenLayout,
    /// 1 / √head_dim
    scale: f32,
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
            scale: 1.0 / libm::sqrtf(op.head_dim() as f32),
            out: Rounded::new(memory, &op.out, None),
        }
    };
    // As many queries to a tile as a panel has columns.
    (op.queries.images * op.heads * op.queries.tokens().div_ceil(memory.panel()), kernel)
}

/// What a tile keeps on the stack: about 100 KiB where a panel has 64 columns, 40 KiB where it has 16. Queries are
/// columns: keys and values are then read as they lie, and the softmax goes down the rows without sums across lanes.
struct Scratch<S: Simd> {
    /// `(head_dim, queries)`: queries, divided by the root of `head_dim`.
    q: [S::Panel; MAX_HEAD_DIM],
    /// `(KEYS, queries)`: scores of a block of keys, then their weights.
    weights: [S::Panel; KEYS],
    /// `(KEYS, head_dim)`: values of a block, side by side.
    values: [[f32; MAX_HEAD_DIM]; KEYS],
    /// `(head_dim, queries)`: weighted sums of values so far.
    sums: [S::Panel; MAX_HEAD_DIM],
    /// Largest score of each query so far.
    max: S::Panel,
    /// Sum of each query's weights so far.
    total: S::Panel,
    /// What the sums so far are multiplied with when a block is added.
    shrink: S::Panel,
}

/// A tile's place.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    /// First channel of the head.
    column: usize,
    head_dim: usize,
    /// First query.
    first: usize,
    /// Queries.
    count: usize,
}

impl Tiles for Kernel<'_> {
    /// Online softmax ("FlashAttention", arXiv 2205.14135): sums and totals are rescaled when a larger score comes.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let head_dim = self.q.cols / self.heads;
        let blocks = self.queries.tokens().div_ceil(S::PANEL);
        let first = index % blocks * S::PANEL;
        let place = Place {
            image: index / blocks / self.heads,
            column: index / blocks % self.heads * head_dim,
            head_dim,
            first,
            count: S::PANEL.min(self.queries.tokens() - first),
        };
        let half = place.count <= S::PANEL / 2;
        let mut b = Scratch::<S> {
            q: [S::Panel::splat(0.0); MAX_HEAD_DIM],
            weights: [S::Panel::splat(0.0); KEYS],
            values: [[0.0; MAX_HEAD_DIM]; KEYS],
            sums: [S::Panel::splat(0.0); MAX_HEAD_DIM],
            max: S::Panel::splat(f32::NEG_INFINITY),
            total: S::Panel::splat(0.0),
            shrink: S::Panel::splat(0.0),
        };
        self.take_queries(&mut b, place);
        for start in (0..self.keys.tokens()).step_by(KEYS) {
            let keys = KEYS.min(self.keys.tokens() - start);
            // SAFETY: the keys are the image's.
            unsafe { self.score(s, &mut b, place, start, keys, half) };
            weigh(s, &mut b, keys, half);
            self.take_values(&mut b, place, start, keys);
            let sum = Columns {
                x: b.values.as_ptr().cast(),
                x_steps: [1, MAX_HEAD_DIM],
                rows: head_dim,
                k: keys,
                w: b.weights.as_mut_ptr().cast(),
                keep: b.shrink.columns().as_ptr(),
                out: b.sums.as_mut_ptr().cast(),
                half,
            };
            // SAFETY: all in the scratch, which holds the longest heads and blocks.
            unsafe { s.columns(&sum) };
        }
        for i in 0..place.count {
            let inverse = 1.0 / b.total.columns()[i];
            let mut row = [0.0; MAX_HEAD_DIM];
            for (to, sums) in row.iter_mut().zip(&mut b.sums[..head_dim]) {
                *to = sums.columns()[i] * inverse;
            }
            let r = self.queries.row_of(place.image, first + i);
            // SAFETY: a tile is some queries of one head.
            unsafe { self.out.store_part(s, r, place.column, &row[..head_dim]) };
        }
    }
}

impl Kernel<'_> {
    /// Turns the tile's queries into columns.
    #[inline(always)]
    fn take_queries<S: Simd>(&self, b: &mut Scratch<S>, place: Place) {
        for i in 0..place.count {
            let row = self.q.row(self.queries.row_of(place.image, place.first + i));
            for (to, x) in b.q.iter_mut().zip(&row[place.column..][..place.head_dim]) {
                to.columns()[i] = x * self.scale;
            }
        }
    }

    /// Brings a block's values side by side: rows that lie a power of two apart would share a few lines of the cache.
    #[inline(always)]
    fn take_values<S: Simd>(&self, b: &mut Scratch<S>, place: Place, start: usize, keys: usize) {
        for (j, to) in b.values[..keys].iter_mut().enumerate() {
            let row = self.v.row(self.keys.row_of(place.image, start + j));
            to[..place.head_dim].copy_from_slice(&row[place.column..][..place.head_dim]);
        }
    }

    /// Scores of a block of keys.
    ///
    /// # Safety
    /// `start..start + keys` are keys of the image, at most [`KEYS`].
    #[inline(always)]
    unsafe fn score<S: Simd>(&self, s: S, b: &mut Scratch<S>, place: Place, start: usize, keys: usize, half: bool) {
        let mut done = 0;
        while done < keys {
            // Image and context tokens lie apart; within each the rows follow each other.
            let token = start + done;
            let left = if token < self.keys.image_tokens { self.keys.image_tokens - token } else { keys };
            let rows = left.min(keys - done);
            let score = Columns {
                x: self.k.row(self.keys.row_of(place.image, token))[place.column..].as_ptr(),
                x_steps: [self.k.stride, 1],
                rows,
                k: place.head_dim,
                w: b.q.as_mut_ptr().cast(),
                keep: b.shrink.columns().as_ptr(),
                out: b.weights[done..].as_mut_ptr().cast(),
                half,
            };
            b.weights[done..done + rows].fill(S::Panel::splat(0.0));
            // SAFETY: rows of the view, which was checked, and the scratch.
            unsafe { s.columns(&score) };
            done += rows;
        }
    }
}

/// Weights of a block of keys from its scores, down the columns.
#[inline(always)]
fn weigh<S: Simd>(s: S, b: &mut Scratch<S>, keys: usize, half: bool) {
    let end = if half { S::PANEL / 2 } else { S::PANEL };
    for c in (0..end).step_by(S::LANES) {
        let old = s.load_some(&b.max.columns()[c..]);
        let mut max = old;
        for row in &mut b.weights[..keys] {
            max = s.max(max, s.load_some(&row.columns()[c..]));
        }
        let shrink = s.exp(s.sub(old, max));
        let mut total = s.mul(s.load_some(&b.total.columns()[c..]), shrink);
        for row in &mut b.weights[..keys] {
            let weight = s.exp(s.sub(s.load_some(&row.columns()[c..]), max));
            s.store_some(&mut row.columns()[c..], weight);
            total = s.add(total, weight);
        }
        s.store_some(&mut b.max.columns()[c..], max);
        s.store_some(&mut b.total.columns()[c..], total);
        s.store_some(&mut b.shrink.columns()[c..], shrink);
    }
}
