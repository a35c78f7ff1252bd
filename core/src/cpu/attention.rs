use core::mem::MaybeUninit;

use half::bf16;

use super::Tiles;
use super::memory::{Arena, Source};
use super::quantize_rows::Rounded;
use super::simd::product::{Columns, Row};
use super::simd::{MAX_LANES, Simd};
use crate::ops::{Attention, MAX_HEAD_DIM};
use crate::{DType, TokenLayout};

/// Keys of a block.
const KEYS: usize = 64;
/// Tiles that each thread should have.
const TILES_PER_THREAD: usize = 4;

pub(super) struct Kernel<'a> {
    q: Source<'a, f32>,
    k: Source<'a, f32>,
    v: Source<'a, f32>,
    heads: usize,
    queries: TokenLayout,
    keys: TokenLayout,
    /// 1 / √head_dim
    scale: f32,
    /// Tiles of a head.
    parts: usize,
    /// Whether factors may be rounded to bfloat16.
    may_round: bool,
    out: Rounded<'a>,
}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Attention, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    // A tile is as many panels of queries as leave every thread enough of them: it clears its scratch once.
    let heads = op.queries.images * op.heads;
    let panels = op.queries.tokens().div_ceil(memory.panel());
    let parts = (memory.threads() * TILES_PER_THREAD).div_ceil(heads.max(1)).min(panels.max(1));
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
            parts,
            may_round: op.products == DType::BF16,
            out: Rounded::new(memory, &op.out, None),
        }
    };
    (heads * parts, kernel)
}

/// What a tile keeps on the stack: about 140 KiB where a panel has 64 columns, 80 KiB where it has 16. Queries are
/// columns: keys and values are then read as they lie, and the softmax goes down the rows without sums across lanes.
///
/// Where products are of bfloat16 pairs, an element of `q`, `weights`, `keys` and `values` is a pair: of channels in
/// the first and third, of keys in the others, of which there are half as many rows.
struct Scratch<S: Simd> {
    /// `(head_dim, queries)`: queries, divided by the root of `head_dim`.
    q: [S::Panel; MAX_HEAD_DIM],
    /// `(KEYS, queries)`: scores of a block of keys, then their weights.
    weights: [S::Panel; KEYS],
    /// `(KEYS, head_dim / 2)`: keys of a block as pairs.
    keys: [[f32; MAX_HEAD_DIM / 2]; KEYS],
    /// `(KEYS, head_dim)`: values of a block, side by side.
    values: [[f32; MAX_HEAD_DIM]; KEYS],
    /// `(head_dim, queries)`: weighted sums of values so far.
    sums: [S::Panel; MAX_HEAD_DIM],
    /// Some queries, or sums, as rows.
    rows: [[f32; MAX_HEAD_DIM]; MAX_LANES],
    /// Largest score of each query so far.
    max: S::Panel,
    /// Sum of each query's weights so far.
    total: S::Panel,
    /// What the sums so far are multiplied with when a block is added.
    shrink: S::Panel,
}

/// Queries that are attended for at a time.
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
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        let mut scratch = MaybeUninit::<Scratch<S>>::uninit();
        // Not a value that is moved here: that would take twice the stack.
        // SAFETY: each of its fields can be zeros.
        let b = unsafe {
            scratch.as_mut_ptr().write_bytes(0, 1);
            scratch.assume_init_mut()
        };
        // SAFETY: passed on.
        unsafe {
            if S::BF16 && self.may_round {
                self.attend::<S, true>(s, b, index)
            } else {
                self.attend::<S, false>(s, b, index)
            }
        }
    }
}

impl Kernel<'_> {
    /// # Safety
    /// As [`Tiles::tile`].
    #[inline(always)]
    unsafe fn attend<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<S>, index: usize) {
        let head_dim = self.q.cols / self.heads;
        let (head, part) = (index / self.parts, index % self.parts);
        let tokens = self.queries.tokens();
        let panels = tokens.div_ceil(S::PANEL);
        for panel in part * panels / self.parts..(part + 1) * panels / self.parts {
            let first = panel * S::PANEL;
            let place = Place {
                image: head / self.heads,
                column: head % self.heads * head_dim,
                head_dim,
                first,
                count: S::PANEL.min(tokens - first),
            };
            // SAFETY: passed on.
            unsafe { self.attend_panel::<S, PAIRS>(s, b, place) };
        }
    }

    /// Online softmax ("FlashAttention", arXiv 2205.14135): sums and totals are rescaled when a larger score comes.
    ///
    /// # Safety
    /// As [`Tiles::tile`].
    #[inline(always)]
    unsafe fn attend_panel<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<S>, place: Place) {
        let head_dim = place.head_dim;
        let half = place.count <= S::PANEL / 2;
        b.max = S::Panel::splat(f32::NEG_INFINITY);
        b.total = S::Panel::splat(0.0);
        self.take_queries::<S, PAIRS>(s, b, place);
        for start in (0..self.keys.tokens()).step_by(KEYS) {
            let keys = KEYS.min(self.keys.tokens() - start);
            // SAFETY: the keys are the image's.
            unsafe { self.score::<S, PAIRS>(s, b, place, start, keys, half) };
            weigh::<S, PAIRS>(s, b, keys, half);
            self.take_values::<S, PAIRS>(s, b, place, start, keys);
            let sum = Columns {
                x: b.values.as_ptr().cast(),
                x_steps: [1, MAX_HEAD_DIM],
                rows: head_dim,
                k: groups::<PAIRS>(keys),
                w: b.weights.as_mut_ptr().cast(),
                keep: if start > 0 { b.shrink.columns().as_ptr() } else { core::ptr::null() },
                out: b.sums.as_mut_ptr().cast(),
                half,
            };
            // SAFETY: all in the scratch, which holds the longest heads and blocks.
            unsafe { columns::<S, PAIRS>(s, &sum) };
        }
        for first in (0..place.count).step_by(S::LANES) {
            for c in (0..head_dim).step_by(S::LANES) {
                let from = b.sums[c..].as_mut_ptr().cast::<f32>();
                // SAFETY: whole vectors of the scratch, which holds the longest heads.
                unsafe { s.transpose(from.add(first), S::PANEL, b.rows[0][c..].as_mut_ptr(), MAX_HEAD_DIM) };
            }
            for (i, row) in b.rows.iter_mut().enumerate().take(S::LANES.min(place.count - first)) {
                let row = &mut row[..head_dim];
                let inverse = s.splat(1.0 / b.total.columns()[first + i]);
                for x in row.chunks_mut(S::LANES) {
                    s.store_some(x, s.mul(s.load_some(x), inverse));
                }
                let r = self.queries.row_of(place.image, place.first + first + i);
                // SAFETY: a tile is some queries of one head.
                unsafe { self.out.store_part(s, r, place.column, row) };
            }
        }
    }

    /// Turns a panel's queries into columns.
    #[inline(always)]
    fn take_queries<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<S>, place: Place) {
        for first in (0..place.count).step_by(S::LANES) {
            for (i, to) in b.rows.iter_mut().enumerate().take(S::LANES.min(place.count - first)) {
                let row = self.q.row(self.queries.row_of(place.image, place.first + first + i));
                let row = &row[place.column..][..place.head_dim];
                if PAIRS {
                    // Scores become powers of 2.
                    to_pairs(s, to, row, self.scale * core::f32::consts::LOG2_E);
                } else {
                    for (to, x) in to.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
                        s.store_some(to, s.mul(s.load_some(x), s.splat(self.scale)));
                    }
                }
            }
            for c in (0..groups::<PAIRS>(place.head_dim)).step_by(S::LANES) {
                let to = b.q[c..].as_mut_ptr().cast::<f32>();
                // SAFETY: whole vectors of the scratch, which holds the longest heads.
                unsafe { s.transpose(b.rows[0][c..].as_ptr(), MAX_HEAD_DIM, to.add(first), S::PANEL) };
            }
        }
    }

    /// Brings a block's values side by side: rows that lie a power of two apart would share a few lines of the cache.
    #[inline(always)]
    fn take_values<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        b: &mut Scratch<S>,
        place: Place,
        start: usize,
        keys: usize,
    ) {
        const NONE: [f32; MAX_HEAD_DIM] = [0.0; MAX_HEAD_DIM];
        for j in 0..groups::<PAIRS>(keys) {
            let to = &mut b.values[j];
            if PAIRS {
                let first = self.value(place, start + 2 * j);
                let second = if 2 * j + 1 < keys { self.value(place, start + 2 * j + 1) } else { &NONE };
                for c in (0..place.head_dim).step_by(S::LANES) {
                    // SAFETY: whole vectors of a row of the scratch.
                    unsafe {
                        s.store_bf16_pairs(to[c..].as_mut_ptr(), s.load_some(&first[c..]), s.load_some(&second[c..]));
                    }
                }
            } else {
                to[..place.head_dim].copy_from_slice(self.value(place, start + j));
            }
        }
    }

    #[inline(always)]
    fn value(&self, place: Place, key: usize) -> &[f32] {
        &self.v.row(self.keys.row_of(place.image, key))[place.column..][..place.head_dim]
    }

    /// Scores of a block of keys.
    ///
    /// # Safety
    /// `start..start + keys` are keys of the image, at most [`KEYS`].
    #[inline(always)]
    unsafe fn score<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        b: &mut Scratch<S>,
        place: Place,
        start: usize,
        keys: usize,
        half: bool,
    ) {
        let mut done = 0;
        while done < keys {
            // Image and context tokens lie apart; within each the rows follow each other.
            let token = start + done;
            let left = if token < self.keys.image_tokens { self.keys.image_tokens - token } else { keys };
            let rows = left.min(keys - done);
            let row = self.keys.row_of(place.image, token);
            let (x, x_step) = if PAIRS {
                for (i, to) in b.keys[done..done + rows].iter_mut().enumerate() {
                    to_pairs(s, to, &self.k.row(row + i)[place.column..][..place.head_dim], 1.0);
                }
                (b.keys[done..].as_ptr().cast(), MAX_HEAD_DIM / 2)
            } else {
                (self.k.row(row)[place.column..].as_ptr(), self.k.stride)
            };
            let score = Columns {
                x,
                x_steps: [x_step, 1],
                rows,
                k: groups::<PAIRS>(place.head_dim),
                w: b.q.as_mut_ptr().cast(),
                keep: core::ptr::null(),
                out: b.weights[done..].as_mut_ptr().cast(),
                half,
            };
            // SAFETY: rows of the view, which was checked, and the scratch.
            unsafe { columns::<S, PAIRS>(s, &score) };
            done += rows;
        }
    }
}

/// What `n` elements of a sum are multiplied in: pairs, or one by one.
const fn groups<const PAIRS: bool>(n: usize) -> usize {
    if PAIRS { n.div_ceil(2) } else { n }
}

/// # Safety
/// The promises of [`Columns`].
#[inline(always)]
unsafe fn columns<S: Simd, const PAIRS: bool>(s: S, c: &Columns) {
    // SAFETY: passed on.
    unsafe { if PAIRS { s.columns_bf16(c) } else { s.columns(c) } }
}

/// Rounds a head, times `scale`, to pairs of bfloat16; pairs past its end are 0.
#[inline(always)]
fn to_pairs<S: Simd>(s: S, to: &mut [f32], head: &[f32], scale: f32) {
    let to = to[..MAX_HEAD_DIM / 2].as_mut_ptr().cast::<bf16>();
    for c in (0..head.len()).step_by(S::LANES) {
        // SAFETY: `to` has room for the longest head, which is whole vectors.
        unsafe { s.store_bf16(to.add(c), s.mul(s.load_some(&head[c..]), s.splat(scale))) };
    }
}

const _: () = assert!(MAX_HEAD_DIM.is_multiple_of(MAX_LANES));

/// Weights of a block of keys from its scores, down the columns.
#[inline(always)]
fn weigh<S: Simd, const PAIRS: bool>(s: S, b: &mut Scratch<S>, keys: usize, half: bool) {
    let end = if half { S::PANEL / 2 } else { S::PANEL };
    for c in (0..end).step_by(S::LANES) {
        let old = s.load_some(&b.max.columns()[c..]);
        let mut max = old;
        for row in &mut b.weights[..keys] {
            max = s.max(max, s.load_some(&row.columns()[c..]));
        }
        let unit = if PAIRS { core::f32::consts::LN_2 } else { 1.0 };
        let shrink = s.exp(s.mul(s.sub(old, max), s.splat(unit)));
        let mut total = s.mul(s.load_some(&b.total.columns()[c..]), shrink);
        if PAIRS {
            for j in 0..groups::<PAIRS>(keys) {
                let first = s.exp2_16(s.sub(s.load_some(&b.weights[2 * j].columns()[c..]), max));
                total = s.add(total, first);
                let mut second = s.splat(0.0);
                if 2 * j + 1 < keys {
                    second = s.exp2_16(s.sub(s.load_some(&b.weights[2 * j + 1].columns()[c..]), max));
                    total = s.add(total, second);
                }
                // SAFETY: a vector of a row; the rows that it came from were read, here or before.
                unsafe { s.store_bf16_pairs(b.weights[j].columns()[c..].as_mut_ptr(), first, second) };
            }
        } else {
            for row in &mut b.weights[..keys] {
                let weight = s.exp(s.sub(s.load_some(&row.columns()[c..]), max));
                s.store_some(&mut row.columns()[c..], weight);
                total = s.add(total, weight);
            }
        }
        s.store_some(&mut b.max.columns()[c..], max);
        s.store_some(&mut b.total.columns()[c..], total);
        s.store_some(&mut b.shrink.columns()[c..], shrink);
    }
}
