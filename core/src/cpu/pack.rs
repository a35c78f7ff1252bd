//! Weights repacked for the instruction set: panels of columns in which the elements that one vector takes lie side
//! by side.
//!
//! A panel holds [`Simd::PANEL`] rows of the weight matrix `(n, k)`, which are columns of the product. Inside it,
//! groups of `k` follow each other, four bytes to a column (f16: two): `[k / group][panel][group]`. This is the order
//! of `vpdpbusd`, `vdpbf16ps`, `sdot` and AMX's tiles alike; int8 for `smmla` has eight bytes to a column. `n` and `k`
//! are padded with zeros. Where an instruction set multiplies unsigned activations, int8 panels end with 128 times the
//! sum of each column, i32. What follows is the [`QuantResidual`](crate::QuantResidual) of int8 weights, where they
//! have one, as words `[k / 16][panel]`.

use bytemuck::Pod;

use super::isa::{self, Isa};
use super::shape::Shape;
use super::simd::block::CHUNK;
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
        pack_weight(bytes, weight, shape, to, panel_bytes, executor);
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

/// A panel that one task writes.
struct Panel(*mut u8);

// SAFETY: plain bytes; each task writes a panel of its own.
unsafe impl Sync for Panel {}

/// `data` and `rest` are the bytes of the weight and of its residual.
fn pack_weight(
    [data, rest]: [&[u8]; 2],
    weight: &Weight,
    shape: Shape,
    to: &mut [u8],
    panel_bytes: usize,
    executor: &dyn Executor,
) {
    let view = &weight.data;
    let size = view.dtype.size();
    let row = |r: usize| &data[r * view.stride * size..][..view.cols * size];
    let panels = view.rows.div_ceil(shape.panel);
    assert!(panels * panel_bytes <= to.len());
    let base = &Panel(to.as_mut_ptr());
    executor.run(panels, &|panel| {
        assert!(panel < panels);
        // SAFETY: panel `panel` of `to`, as just asserted, which no other task writes, as executors promise.
        let to = unsafe { core::slice::from_raw_parts_mut(base.0.add(panel * panel_bytes), panel_bytes) };
        let row = |r: usize| if panel * shape.panel + r < view.rows { row(panel * shape.panel + r) } else { &[] };
        let residual_bytes = weight.residual().map_or(0, |residual| residual.cols * shape.panel);
        let (to, rest_to) = to.split_at_mut(panel_bytes - residual_bytes);
        if let Some(residual) = weight.residual() {
            let first = panel * shape.panel;
            let rows = shape.panel.min(view.rows - first);
            interleave::<u32>(bytemuck::cast_slice_mut(rest_to), shape.panel, &|r| {
                if r < rows { &rest[(first + r) * residual.stride..][..residual.cols] } else { &[] }
            });
        }
        let sums = if view.dtype == DType::I8 && shape.sums { size_of::<i32>() * shape.panel } else { 0 };
        let (to, sums) = to.split_at_mut(to.len() - sums);
        interleave_words(Word::of(view.dtype, shape.i8_group), to, shape.panel, &row);
        for (r, sum) in bytemuck::cast_slice_mut::<u8, i32>(sums).iter_mut().enumerate() {
            let weights = bytemuck::cast_slice::<u8, i8>(row(r));
            // As the products do, so that what wraps there wraps here.
            *sum = weights.iter().fold(0, |sum: i32, &w| sum.wrapping_add(128 * i32::from(w)));
        }
    });
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
pub(super) fn interleave_words<'f>(word: Word, to: &mut [u8], panel: usize, row: &dyn Fn(usize) -> &'f [u8]) {
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
            let tail = &tail[..tail.len().min(size)];
            bytemuck::bytes_of_mut(&mut last)[..tail.len()].copy_from_slice(tail);
            let padded = words.chain([last]).chain(core::iter::repeat(T::zeroed()));
            to[r..].iter_mut().step_by(panel).zip(padded).for_each(|(to, x)| *to = x);
        }
    }
}
