use core::mem::MaybeUninit;

use half::bf16;

use super::matrix::Source;
use super::memory::Arena;
use super::rounded::Rounded;
use super::simd::block::{Columns, Row};
use super::simd::{MAX_LANES, Simd};
use super::tiles::Tiles;
use crate::ops::{Attention, MAX_HEAD_DIM};
use crate::{DType, TokenLayout};

/// Keys of a block.
const KEYS: usize = 64;
/// Tiles that each thread should have.
const TILES_PER_THREAD: usize = 4;

#[derive(Clone, Copy)]
pub(super) struct Kernel<'a> {
    q: Source<'a, f32>,
    k: Source<'a, f32>,
    v: Source<'a, f32>,
    heads: usize,
    queries: TokenLayout,
    keys: TokenLayout,
    /// 1 / √head_dim
    scale: f32,
    /// Panels of a head's queries.
    panels: usize,
    tiles: usize,
    /// Whether factors may be rounded to bfloat16.
    may_round: bool,
    out: Rounded<'a>,
    /// Columns of a panel.
    panel: usize,
    scratch: Slots,
}

/// Where tiles work: each in `bytes` of its own, by its number.
#[derive(Clone, Copy)]
struct Slots {
    first: *mut u8,
    bytes: usize,
}

// SAFETY: plain bytes; each tile touches its own.
unsafe impl Sync for Slots {}

/// # Safety
/// The descriptor was checked, and no other kernel runs.
pub(super) unsafe fn tiles<'a>(op: &Attention, memory: &Arena<'a>) -> (usize, Kernel<'a>) {
    let (panel, head_dim) = (memory.shape().panel, op.head_dim());
    let panels = op.queries.tokens().div_ceil(panel);
    let all = op.queries.images * op.heads * panels;
    let bytes = scratch_bytes(panel, head_dim);
    // Where there is no memory for one tile, tiles work on the stack.
    let (first, slots) = memory.scratch(bytes).unwrap_or((core::ptr::null_mut(), usize::MAX));
    let tiles = all.min(slots).min(tiles_of(memory.threads()));
    // SAFETY: the caller checked the descriptor, and runs no other kernel.
    let kernel = unsafe {
        Kernel {
            q: memory.source(&op.q),
            k: memory.source(&op.k),
            v: memory.source(&op.v),
            heads: op.heads,
            queries: op.queries,
            keys: op.keys,
            scale: 1.0 / libm::sqrtf(head_dim as f32),
            panels,
            tiles,
            may_round: op.products == DType::BF16,
            out: Rounded::new(memory, &op.out, None),
            panel,
            scratch: Slots { first, bytes },
        }
    };
    (tiles, kernel)
}

/// How many tiles an attention has at most.
pub(super) const fn tiles_of(threads: usize) -> usize {
    if threads == 1 { 1 } else { threads * TILES_PER_THREAD }
}

/// Bytes that a tile works in.
pub(super) const fn scratch_bytes(panel: usize, head_dim: usize) -> usize {
    let wide = head_dim.next_multiple_of(MAX_LANES);
    // Levels with pairs of bfloat16 have panels of at least so many columns.
    let least = if cfg!(target_arch = "aarch64") { 16 } else { 32 };
    let keys = if panel >= least { KEYS * wide / 2 } else { 0 };
    4 * ((2 * wide + KEYS + 3) * panel + (KEYS + MAX_LANES) * wide + keys)
}

/// What a tile works in: 24 to 60 KiB where a panel has 16 columns and a head 32 to 128 channels, 48 to 140 KiB where
/// it has 64 columns. Queries are columns: keys and values are then read as they lie, and the softmax goes down the
/// rows without sums across lanes.
///
/// Where products are of bfloat16 pairs, an element of `q`, `weights`, `keys` and `values` is a pair: of channels in
/// the first and third, of keys in the others, of which there are half as many rows.
struct Scratch<'s, S: Simd> {
    /// `(wide, queries)`: queries, divided by the root of `head_dim`. `wide` is `head_dim`, rounded up to whole
    /// vectors.
    q: &'s mut [S::Panel],
    /// `(KEYS, queries)`: scores of a block of keys, then their weights.
    weights: &'s mut [S::Panel],
    /// `(KEYS, wide / 2)`: keys of a block as pairs.
    keys: &'s mut [f32],
    /// `(KEYS, wide)`: values of a block, side by side.
    values: &'s mut [f32],
    /// `(wide, queries)`: weighted sums of values so far.
    sums: &'s mut [S::Panel],
    /// `(MAX_LANES, wide)`: some queries, or sums, as rows.
    rows: &'s mut [f32],
    /// Largest score of each query so far.
    max: S::Panel,
    /// Sum of each query's weights so far.
    total: S::Panel,
    /// What the sums so far are multiplied with when a block is added.
    shrink: S::Panel,
    wide: usize,
}

impl<'s, S: Simd> Scratch<'s, S> {
    /// Everything zero.
    ///
    /// # Safety
    /// [`scratch_bytes`] at `first` are writable, start at a multiple of 64, and are this tile's for as long as it
    /// runs.
    #[inline(always)]
    unsafe fn new(first: *mut u8, head_dim: usize) -> Scratch<'s, S> {
        let wide = head_dim.next_multiple_of(MAX_LANES);
        let (panels, floats) =
            (2 * wide + KEYS, (KEYS + MAX_LANES) * wide + if S::BF16_VECTORS { KEYS * wide / 2 } else { 0 });
        // SAFETY: as promised: at most `scratch_bytes`, zeros, each of them part of one slice. Rows of a panel's width
        // come first, so that they start at multiples of 64.
        let (panels, floats) = unsafe {
            first.write_bytes(0, panels * size_of::<S::Panel>() + 4 * floats);
            let rest = first.add(panels * size_of::<S::Panel>());
            (
                core::slice::from_raw_parts_mut(first.cast::<S::Panel>(), panels),
                core::slice::from_raw_parts_mut(rest.cast::<f32>(), floats),
            )
        };
        let (q, panels) = panels.split_at_mut(wide);
        let (sums, weights) = panels.split_at_mut(wide);
        let (values, floats) = floats.split_at_mut(KEYS * wide);
        let (rows, keys) = floats.split_at_mut(MAX_LANES * wide);
        let [max, total, shrink] = [S::Panel::splat(0.0); 3];
        Scratch { q, weights, keys, values, sums, rows, max, total, shrink, wide }
    }
}

/// Queries that are attended for at a time.
#[derive(Clone, Copy)]
struct QueryPanel {
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

    fn prepared(&self, tile: impl FnOnce(&Self)) {
        match self.scratch.first.is_null() {
            false => tile(self),
            true if self.panel > 16 => on_stack::<{ scratch_bytes(64, MAX_HEAD_DIM) }, _>(self, tile),
            true => on_stack::<{ scratch_bytes(16, MAX_HEAD_DIM) }, _>(self, tile),
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, index: usize) {
        // SAFETY: the caller runs each tile once.
        unsafe {
            let first = self.scratch.first.add(index * self.scratch.bytes);
            let b = &mut Scratch::<S>::new(first, self.q.cols / self.heads);
            if S::BF16_VECTORS && self.may_round {
                self.attend::<S, true>(s, b, index)
            } else {
                self.attend::<S, false>(s, b, index)
            }
        }
    }
}

/// A tile's scratch where no other memory is given. Nothing else has it in its frame.
#[inline(never)]
fn on_stack<'a, const BYTES: usize, F: FnOnce(&Kernel<'a>)>(kernel: &Kernel<'a>, tile: F) {
    #[repr(align(64))]
    struct Aligned<const BYTES: usize>([u8; BYTES]);
    let mut memory = MaybeUninit::<Aligned<BYTES>>::uninit();
    tile(&Kernel { scratch: Slots { first: memory.as_mut_ptr().cast(), bytes: 0 }, ..*kernel });
}

impl Kernel<'_> {
    /// # Safety
    /// As [`Tiles::tile`].
    #[inline(always)]
    unsafe fn attend<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<'_, S>, index: usize) {
        let head_dim = self.q.cols / self.heads;
        let tokens = self.queries.tokens();
        let all = self.queries.images * self.heads * self.panels;
        for i in index * all / self.tiles..(index + 1) * all / self.tiles {
            let (head, first) = (i / self.panels, i % self.panels * S::PANEL);
            let place = QueryPanel {
                image: head / self.heads,
                column: head % self.heads * head_dim,
                head_dim,
                first,
                count: S::PANEL.min(tokens - first),
            };
            // SAFETY: a tile is some panels of queries of one head, and `place` is one of them.
            unsafe { self.attend_panel::<S, PAIRS>(s, b, place) };
        }
    }

    /// Online softmax ("FlashAttention", arXiv 2205.14135): sums and totals are rescaled when a larger score comes.
    ///
    /// # Safety
    /// As [`Tiles::tile`].
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn attend_panel<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<'_, S>, place: QueryPanel) {
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
                x_steps: [1, b.wide],
                rows: head_dim,
                k: groups::<PAIRS>(keys),
                w: b.weights.as_mut_ptr().cast(),
                keep: if start > 0 { b.shrink.columns().as_ptr() } else { core::ptr::null() },
                out: b.sums.as_mut_ptr().cast(),
                half,
            };
            // SAFETY: all in the scratch.
            unsafe { columns::<S, PAIRS>(s, &sum) };
        }
        for first in (0..place.count).step_by(S::LANES) {
            for c in (0..head_dim).step_by(S::LANES) {
                let from = b.sums[c..].as_mut_ptr().cast::<f32>();
                // SAFETY: whole vectors of the scratch.
                unsafe { s.transpose(from.add(first), S::PANEL, b.rows[c..].as_mut_ptr(), b.wide) };
            }
            for (i, row) in b.rows.chunks_mut(b.wide).enumerate().take(S::LANES.min(place.count - first)) {
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
    #[cfg_attr(feature = "simd", inline(always))]
    fn take_queries<S: Simd, const PAIRS: bool>(&self, s: S, b: &mut Scratch<'_, S>, place: QueryPanel) {
        for first in (0..place.count).step_by(S::LANES) {
            for (i, to) in b.rows.chunks_mut(b.wide).enumerate().take(S::LANES.min(place.count - first)) {
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
                // SAFETY: whole vectors of the scratch.
                unsafe { s.transpose(b.rows[c..].as_ptr(), b.wide, to.add(first), S::PANEL) };
            }
        }
    }

    /// Brings a block's values side by side: rows that lie a power of two apart would share a few lines of the cache.
    #[cfg_attr(feature = "simd", inline(always))]
    fn take_values<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        b: &mut Scratch<'_, S>,
        place: QueryPanel,
        start: usize,
        keys: usize,
    ) {
        const NONE: [f32; MAX_HEAD_DIM] = [0.0; MAX_HEAD_DIM];
        for j in 0..groups::<PAIRS>(keys) {
            let to = &mut b.values[j * b.wide..][..b.wide];
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
    fn value(&self, place: QueryPanel, key: usize) -> &[f32] {
        &self.v.row(self.keys.row_of(place.image, key))[place.column..][..place.head_dim]
    }

    /// Scores of a block of keys.
    ///
    /// # Safety
    /// `start..start + keys` are keys of the image, at most [`KEYS`].
    #[cfg_attr(feature = "simd", inline(always))]
    unsafe fn score<S: Simd, const PAIRS: bool>(
        &self,
        s: S,
        b: &mut Scratch<'_, S>,
        place: QueryPanel,
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
                for (i, to) in b.keys.chunks_mut(b.wide / 2).skip(done).take(rows).enumerate() {
                    to_pairs(s, to, &self.k.row(row + i)[place.column..][..place.head_dim], 1.0);
                }
                (b.keys[done * b.wide / 2..].as_ptr(), b.wide / 2)
            } else {
                (self.k.pointer(row, place.column), self.k.stride)
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
#[cfg_attr(feature = "simd", inline(always))]
unsafe fn columns<S: Simd, const PAIRS: bool>(s: S, c: &Columns) {
    // SAFETY: the caller promises what [`Columns`] asks for.
    unsafe { if PAIRS { s.columns_bf16(c) } else { s.columns(c) } }
}

/// Rounds a head, times `scale`, to pairs of bfloat16; pairs past its end are 0.
#[cfg_attr(feature = "simd", inline(always))]
fn to_pairs<S: Simd>(s: S, to: &mut [f32], head: &[f32], scale: f32) {
    let to = to[..head.len().next_multiple_of(MAX_LANES) / 2].as_mut_ptr().cast::<bf16>();
    for c in (0..head.len()).step_by(S::LANES) {
        // SAFETY: `to` has room for the head's whole vectors.
        unsafe { s.store_bf16(to.add(c), s.mul(s.load_some(&head[c..]), s.splat(scale))) };
    }
}

const _: () = assert!(MAX_HEAD_DIM.is_multiple_of(MAX_LANES));

/// Weights of a block of keys from its scores, down the columns.
#[cfg_attr(feature = "simd", inline(always))]
fn weigh<S: Simd, const PAIRS: bool>(s: S, b: &mut Scratch<'_, S>, keys: usize, half: bool) {
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
