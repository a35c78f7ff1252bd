//! Weights repacked for the instruction set: panels of columns in which the elements that one vector takes lie side
//! by side.
//!
//! A panel holds [`Simd::PANEL`] rows of the weight matrix `(n, k)`, which are columns of the product. Inside it,
//! groups of `k` follow each other, four bytes to a column (f16: two): `[k / group][panel][group]`. This is the order
//! of `vpdpbusd`, `vdpbf16ps`, `sdot` and AMX's tiles alike; int8 for `smmla` has eight bytes to a column. `n` and `k`
//! are padded with zeros. Where an instruction set multiplies unsigned activations, int8 panels end with 128 times the
//! sum of each column, i32. What follows is the [`QuantResidual`](crate::QuantResidual) of int8 weights, where they
//! have one, as words `[k / 16][panel]`.

use core::ops::Range;

use bytemuck::Pod;

use super::isa::{self, Isa};
use super::matrix::Source;
use super::shape::Shape;
use super::simd::block::CHUNK;
use super::simd::{MAX_LANES, Simd};
use super::tiles::Tiles;
use crate::checked::range;
use crate::cpu::exec::Executor;
use crate::{DType, Region, View, Weight};

/// A packed matrix.
#[derive(Clone, Copy)]
pub(super) struct PackedWeight<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) panel_bytes: usize,
    /// Columns of a panel.
    pub(super) panel: usize,
    /// Bytes of [`QuantResidual`](crate::QuantResidual) at the end of a panel; 0 where the weight has none.
    residual_bytes: usize,
}

impl<'a> PackedWeight<'a> {
    /// A panel's bytes; none past the last.
    #[inline(always)]
    pub(super) fn panel_bytes(&self, panel: usize) -> &'a [u8] {
        self.bytes.get(panel * self.panel_bytes..).and_then(|rest| rest.get(..self.panel_bytes)).unwrap_or_default()
    }

    /// What the sums of a panel's products with unsigned activations are too large by.
    #[inline(always)]
    pub(super) fn excess(&self, panel: usize) -> &'a [i32] {
        let end = (panel + 1) * self.panel_bytes - self.residual_bytes;
        bytemuck::cast_slice(&self.bytes[end - size_of::<i32>() * self.panel..end])
    }

    /// Whether panels have a [`QuantResidual`](crate::QuantResidual).
    #[inline(always)]
    pub(super) fn has_residual(&self) -> bool {
        self.residual_bytes > 0
    }

    /// The panel's [`QuantResidual`](crate::QuantResidual): words of a column follow each other a panel's width apart.
    #[inline(always)]
    pub(super) fn residual(&self, panel: usize) -> &'a [u8] {
        let end = (panel + 1) * self.panel_bytes;
        &self.bytes[end - self.residual_bytes..end]
    }
}

/// One entry of the table at the start of a packed region, sorted by the first number.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    /// First byte in the model file.
    file: u64,
    /// First byte in the packed region.
    packed: u64,
    /// Rows of the matrix. It and its first half start at the same byte of the file, and are packed differently.
    rows: u64,
}

/// What precedes the table.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Header {
    entries: u64,
    /// [`Shape::tag`] of the instruction set.
    tag: u64,
}

/// A region of packed weights, for one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a> {
    region: &'a [u8],
    shape: Shape,
}

impl<'a> Packed<'a> {
    /// Whatever the region holds: a region that [`pack`] did not fill for this instruction set has no weights.
    pub(super) fn new(region: &'a [u8], isa: Isa) -> Packed<'a> {
        Packed { region, shape: isa::shape(isa) }
    }

    /// The packed form of a weight matrix, where there is one.
    pub(super) fn find(&self, weight: &Weight) -> Option<PackedWeight<'a>> {
        let (header, rest) = self.region.split_at_checked(size_of::<Header>())?;
        let header: &Header = bytemuck::try_from_bytes(header).ok()?;
        if header.tag != self.shape.tag() || weight.data.region != Region::Weights {
            return None;
        }
        let table = rest.get(..usize::try_from(header.entries).ok()?.checked_mul(size_of::<Entry>())?)?;
        let table: &[Entry] = bytemuck::try_cast_slice(table).ok()?;
        let entry = table[table.binary_search_by_key(&(weight.data.offset as u64), |e| e.file).ok()?];
        if entry.rows != weight.data.rows as u64 {
            return None;
        }
        let bytes = range(self.region, entry.packed, self.shape.bytes(weight)? as u64)?;
        let (panel_bytes, residual_bytes) = (self.shape.panel_bytes(weight)?, self.shape.residual_bytes(weight)?);
        Some(PackedWeight { bytes, panel_bytes, panel: self.shape.panel, residual_bytes })
    }
}

/// Bytes that [`pack`] needs for these weights; `None` beyond the address space.
pub fn packed_bytes(weights: impl Iterator<Item = Weight>, isa: Isa) -> Option<usize> {
    let shape = isa::shape(isa);
    let mut count = 0usize;
    let mut bytes = 0usize;
    for weight in weights {
        count += 1;
        bytes = bytes.checked_add(shape.bytes(&weight)?)?;
    }
    bytes.checked_add(data_start(count)?)
}

fn data_start(entries: usize) -> Option<usize> {
    entries.checked_mul(size_of::<Entry>())?.checked_add(size_of::<Header>())?.checked_next_multiple_of(CHUNK)
}

/// Where [`pack_from`] reads weights.
pub trait WeightSource {
    /// The bytes of a weight's matrix and of its residual, none where it has none: from the first element of each to
    /// the end of its last. `None` leaves the weight out.
    fn read(&mut self, weight: &Weight) -> Option<[&[u8]; 2]>;

    /// Called once a weight is packed: its bytes in the file are no longer needed.
    fn has_packed(&mut self, weight: &Weight);
}

/// A model file in memory.
struct InMemory<'f> {
    file: &'f [u8],
    done: &'f mut dyn FnMut(&View),
}

impl WeightSource for InMemory<'_> {
    fn read(&mut self, weight: &Weight) -> Option<[&[u8]; 2]> {
        let bytes = |view: &View| match view.region {
            Region::Weights => range(self.file, view.offset as u64, view.len_bytes()? as u64),
            Region::Arena => None,
        };
        Some([bytes(&weight.data)?, weight.residual().as_ref().map_or(Some(&[][..]), bytes)?])
    }

    fn has_packed(&mut self, weight: &Weight) {
        [Some(weight.data), weight.residual()].iter().flatten().for_each(&mut *self.done);
    }
}

/// Packs weights of a model file into a region of [`packed_bytes`] at a multiple of 64, for
/// [`Cpu::with_packed`](super::Cpu::with_packed). `done` is shown each matrix whose bytes in the file are no
/// longer needed. Weights that lie outside the file, or for which the region has no room, are left out: the backend
/// then takes them from the file.
pub fn pack(
    file: &[u8],
    weights: impl Iterator<Item = Weight> + Clone,
    isa: Isa,
    region: &mut [u8],
    executor: &dyn Executor,
    done: &mut dyn FnMut(&View),
) {
    pack_from(&mut InMemory { file, done }, weights, isa, region, executor);
}

/// Like [`pack`], of a file that need not be in memory as a whole.
pub fn pack_from(
    source: &mut dyn WeightSource,
    weights: impl Iterator<Item = Weight> + Clone,
    isa: Isa,
    region: &mut [u8],
    executor: &dyn Executor,
) {
    let shape = isa::shape(isa);
    let count = weights.clone().count();
    let Some(mut at) = data_start(count).filter(|&start| start <= region.len()) else { return };
    let (table, data) = region.split_at_mut(at);
    let (header, entries) = table.split_at_mut(size_of::<Header>());
    let Ok(entries) = bytemuck::try_cast_slice_mut::<u8, Entry>(&mut entries[..count * size_of::<Entry>()]) else {
        return;
    };
    let mut data = data;
    let mut filled = 0;
    for weight in weights {
        let weight = &weight;
        let (Some(len), Some(panel_bytes)) = (shape.bytes(weight), shape.panel_bytes(weight)) else { continue };
        if len > data.len() {
            continue;
        }
        let Some(bytes) = source.read(weight) else { continue };
        let (to, rest) = data.split_at_mut(len);
        pack_weight(bytes, weight, isa, to, panel_bytes, executor);
        source.has_packed(weight);
        entries[filled] = Entry { file: weight.data.offset as u64, packed: at as u64, rows: weight.data.rows as u64 };
        filled += 1;
        at += len;
        data = rest;
    }
    entries[..filled].sort_unstable_by_key(|e| e.file);
    let filled = Header { entries: filled as u64, tag: shape.tag() };
    header.copy_from_slice(bytemuck::bytes_of(&filled));
}

/// A matrix on its way into panels: a tile is a panel.
struct PackWeight<'f> {
    rows: Source<'f, u8>,
    residual: Option<Source<'f, u8>>,
    dtype: DType,
    to: *mut u8,
    panel_bytes: usize,
}

// SAFETY: plain bytes; each tile writes a panel of its own.
unsafe impl Sync for PackWeight<'_> {}

impl Tiles for PackWeight<'_> {
    const PRODUCTS: bool = true;

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, panel: usize) {
        let first = panel * S::PANEL;
        // SAFETY: a panel of the region, which no other tile writes.
        let to = unsafe { core::slice::from_raw_parts_mut(self.to.add(panel * self.panel_bytes), self.panel_bytes) };
        let residual_bytes = self.residual.map_or(0, |residual| residual.cols * S::PANEL);
        let (to, residual_to) = to.split_at_mut(self.panel_bytes - residual_bytes);
        if let Some(residual) = &self.residual {
            pack_rows(s, residual, Word::Four, first, 0..residual.cols, residual_to);
        }
        let has_sums = S::UNSIGNED && self.dtype == DType::I8;
        let (to, sums) = to.split_at_mut(to.len() - if has_sums { size_of::<i32>() * S::PANEL } else { 0 });
        pack_rows(s, &self.rows, Word::of(self.dtype, S::I8_GROUP), first, 0..self.rows.cols, to);
        if has_sums {
            sums.fill(0);
            add_excess(s, to, bytemuck::cast_slice_mut(sums));
        }
    }
}

/// Packs `data` and `rest`, the bytes of the weight and of its residual.
fn pack_weight(
    [data, rest]: [&[u8]; 2],
    weight: &Weight,
    isa: Isa,
    to: &mut [u8],
    panel_bytes: usize,
    executor: &dyn Executor,
) {
    let panels = weight.data.rows.div_ceil(isa::shape(isa).panel);
    assert!(panels * panel_bytes <= to.len());
    let kernel = PackWeight {
        rows: Source::of_bytes(data, &weight.data),
        residual: weight.residual().map(|residual| Source::of_bytes(rest, &residual)),
        dtype: weight.data.dtype,
        to: to.as_mut_ptr(),
        panel_bytes,
    };
    isa::launch(isa, executor, panels, &kernel);
}

/// Packs some bytes of the panel's rows, those from row `first` on, into words that end in zeros.
#[cfg_attr(feature = "simd", inline(always))]
pub(super) fn pack_rows<S: Simd>(
    s: S,
    rows: &Source<'_, u8>,
    word: Word,
    first: usize,
    bytes: Range<usize>,
    to: &mut [u8],
) {
    /// Bytes of a row that are read at a time: some lines, so that few rows are read at once.
    const STRETCH: usize = 256;
    const WORD: usize = size_of::<f32>();
    let square = WORD * S::LANES;
    let mut done = 0;
    if word == Word::Four && first + S::PANEL <= rows.rows && bytes.len() >= square {
        let start = rows.pointer(first, bytes.start);
        if (start.addr() | rows.stride | to.as_ptr().addr()).is_multiple_of(WORD) {
            done = bytes.len() / square * square;
            assert!(done * S::PANEL <= to.len());
            for stretch in (0..done).step_by(STRETCH) {
                for r in (0..S::PANEL).step_by(S::LANES) {
                    for at in (stretch..done.min(stretch + STRETCH)).step_by(square) {
                        let from = rows.pointer(first + r, bytes.start + at).cast::<f32>();
                        // SAFETY: LANES rows from this one on, which are the panel's, and as many of their words.
                        unsafe {
                            let to = to.as_mut_ptr().add(at * S::PANEL).cast::<f32>().add(r);
                            s.transpose(from, rows.stride / WORD, to, S::PANEL);
                        }
                    }
                }
            }
        }
    }
    interleave_words(word, &mut to[done * S::PANEL..], S::PANEL, &|r| {
        if first + r < rows.rows { &rows.row(first + r)[bytes.start + done..bytes.end] } else { &[] }
    });
}

/// Adds what the sums of a panel's columns are too large by: 128 times the weights, wrapped as the products wrap.
#[cfg_attr(feature = "simd", inline(always))]
pub(super) fn add_excess<S: Simd>(s: S, words: &[u8], excess: &mut [i32]) {
    let row = size_of::<i32>() * S::PANEL;
    for (v, excess) in excess[..S::PANEL].chunks_exact_mut(S::LANES).enumerate() {
        let mut sums = s.zero_i32();
        for words in words.chunks_exact(row) {
            // SAFETY: a vector of the row's words.
            let w =
                unsafe { s.bytes(words[v * size_of::<i32>() * S::LANES..][..size_of::<i32>() * S::LANES].as_ptr()) };
            sums = s.dot_bytes(sums, w, s.splat_bytes(0x0101_0101));
        }
        let mut lanes = [0; MAX_LANES];
        // SAFETY: at least LANES elements.
        unsafe { s.store_i32(lanes.as_mut_ptr(), sums) };
        for (excess, sum) in excess.iter_mut().zip(lanes) {
            *excess = excess.wrapping_add(sum.wrapping_mul(128));
        }
    }
}

/// Bytes of a column that lie side by side in a panel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Two,
    Four,
    Eight,
}

impl Word {
    /// Those of weights of this type, where int8 has `i8_group`.
    #[inline(always)]
    pub(super) const fn of(dtype: DType, i8_group: usize) -> Word {
        match dtype {
            DType::F16 => Word::Two,
            DType::I8 if i8_group == size_of::<u64>() => Word::Eight,
            _ => Word::Four,
        }
    }
}

/// Writes the words of `panel` rows as a panel has them; rows end in zeros.
fn interleave_words<'f>(word: Word, to: &mut [u8], panel: usize, row: &dyn Fn(usize) -> &'f [u8]) {
    match word {
        Word::Two => interleave::<u16>(bytemuck::cast_slice_mut(to), panel, row),
        Word::Four => interleave::<u32>(bytemuck::cast_slice_mut(to), panel, row),
        Word::Eight => interleave::<u64>(bytemuck::cast_slice_mut(to), panel, row),
    }
}

/// Writes word `i` of row `r` to place `(i, r)` of a matrix of `panel` columns; rows end in zeros.
fn interleave<'f, T: Pod>(to: &mut [T], panel: usize, row: &dyn Fn(usize) -> &'f [u8]) {
    /// Words of a row that are read at a time: a cache line or two.
    const STEP: usize = 16;
    let size = size_of::<T>();
    for (step, to) in to.chunks_mut(STEP * panel).enumerate() {
        for r in 0..panel {
            let from = row(r).get(step * STEP * size..).unwrap_or_default();
            let (words, tail) = from.split_at(from.len().min(STEP * size) / size * size);
            let words = words.chunks_exact(size).map(bytemuck::pod_read_unaligned);
            let mut last = T::zeroed();
            if !tail.is_empty() {
                let tail = &tail[..tail.len().min(size)];
                bytemuck::bytes_of_mut(&mut last)[..tail.len()].copy_from_slice(tail);
            }
            let padded = words.chain([last]).chain(core::iter::repeat(T::zeroed()));
            to[r..].iter_mut().step_by(panel).zip(padded).for_each(|(to, x)| *to = x);
        }
    }
}
