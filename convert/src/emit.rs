//! Writes tensor data from the checkpoint to the file, one block of rows at a time.

use std::io::{self, Seek, Write};

use denoir_core::gguf::GgmlType;
use denoir_core::ops::rotate;
use half::f16;

use crate::Progress;
use crate::arch::Role;
use crate::checkpoint::Checkpoint;
use crate::element::{load, max_abs, store_bf16, store_f16, store_f32, store_i8_row, store_rest_row};
use crate::error::ConvertError;
use crate::plan::Plan;
use crate::torch::ElementType;
use crate::writer::Writer;

/// Elements per block: 256 KiB of f32, so that a block stays in the second-level cache during its passes.
const BLOCK: usize = 1 << 16;

/// Why writing stopped: an error of the checkpoint or of the disk.
pub(crate) enum EmitError {
    Convert(ConvertError),
    Write(io::Error),
}

impl From<io::Error> for EmitError {
    fn from(error: io::Error) -> Self {
        EmitError::Write(error)
    }
}

impl From<ConvertError> for EmitError {
    fn from(error: ConvertError) -> Self {
        EmitError::Convert(error)
    }
}

/// Buffers reused from tensor to tensor. Each holds a block, or one row if a row is longer.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    halves: Vec<f16>,
    out: Vec<u8>,
}

/// A tensor being written.
struct Item<'i> {
    name: &'i str,
    from: ElementType,
    bytes: &'i [u8],
    to: GgmlType,
    /// Asked before each block.
    stop: &'i dyn Fn() -> bool,
}

impl Item<'_> {
    /// The tensor's bytes in blocks of so many.
    fn blocks(&self, len: usize) -> impl Iterator<Item = Result<&[u8], ConvertError>> {
        let go_on = |block| if (self.stop)() { Err(ConvertError::Cancelled) } else { Ok(block) };
        self.bytes.chunks(len).map(go_on)
    }
}

/// Writes the whole file except the hash of the checkpoint, which [`Writer::finish`] fills in. Calls `read` with the
/// bytes of each tensor that is no longer needed, and asks `stop` from time to time.
pub(crate) fn emit<'w, W: Write + Seek>(
    plan: &Plan<'_>,
    checkpoint: &Checkpoint<'_>,
    out: &'w mut W,
    progress: &mut dyn FnMut(Progress<'_>),
    read: &mut dyn FnMut(&[u8]),
    stop: &dyn Fn() -> bool,
) -> Result<Writer<'w, W>, EmitError> {
    let mut writer = Writer::start(out, &plan.metadata, &plan.entries)?;
    let total = plan.entries.iter().map(|entry| entry.len_bytes).sum();
    let mut done = 0;
    let mut buffers = Buffers::default();
    let mut entries = plan.entries.iter();
    for spec in &plan.network.specs {
        // The plan has the tensors in the network's order, each int8 matrix with its scales and rest right after it.
        let Some(entry) = entries.next() else { break };
        progress(Progress { tensor: &entry.name, bytes_done: done, bytes_total: total });
        let missing = || ConvertError::MissingTensor(entry.name.clone());
        let tensor = plan.selection.tensors.get(&entry.name).ok_or_else(missing)?;
        checkpoint.verify(tensor, stop)?;
        let bytes = checkpoint.bytes(&entry.name, tensor)?;
        let item = Item { name: &entry.name, from: tensor.ty, bytes, to: entry.ty, stop };
        done += entry.len_bytes;
        if entry.ty == GgmlType::I8 {
            let columns: u64 = entry.shape.iter().skip(1).product();
            let rotated = spec.role == Role::Rotatable;
            let scales = quantize(&mut writer, &item, columns as usize, rotated, &mut buffers)?;
            writer.end_tensor()?;
            buffers.out.clear();
            store_f32(&scales, &mut buffers.out);
            writer.write(&buffers.out)?;
            done += entries.next().map_or(0, |scales| scales.len_bytes);
            if spec.role == Role::Centred {
                writer.end_tensor()?;
                rests(&mut writer, &item, columns as usize, &scales, &mut buffers)?;
                done += entries.next().map_or(0, |rest| rest.len_bytes);
            }
        } else {
            copy(&mut writer, &item, &mut buffers)?;
        }
        writer.end_tensor()?;
        read(bytes);
    }
    progress(Progress { tensor: "", bytes_done: total, bytes_total: total });
    Ok(writer)
}

/// Converts to a floating-point type.
fn copy<W: Write + Seek>(writer: &mut Writer<'_, W>, item: &Item<'_>, buffers: &mut Buffers) -> Result<(), EmitError> {
    let size = item.from.size().unwrap_or(1) as usize;
    for block in item.blocks(BLOCK * size) {
        let block = block?;
        buffers.values.resize(block.len() / size, 0.0);
        load(item.from, block, &mut buffers.values);
        let max = max_abs(&buffers.values).ok_or_else(|| ConvertError::NotFinite(item.name.into()))?;
        buffers.out.clear();
        match item.to {
            GgmlType::F16 => {
                if max >= F16_OVERFLOW {
                    return Err(ConvertError::F16Range(item.name.into()).into());
                }
                store_f16(&buffers.values, &mut buffers.halves, &mut buffers.out);
            }
            GgmlType::BF16 => store_bf16(&buffers.values, &mut buffers.out),
            _ => store_f32(&buffers.values, &mut buffers.out),
        }
        writer.write(&buffers.out)?;
    }
    Ok(())
}

/// The smallest value that rounds to infinity in f16.
const F16_OVERFLOW: f32 = 65_520.0;

/// Converts to I8 row by row, rotating each first if requested; returns the scale of each row.
fn quantize<W: Write + Seek>(
    writer: &mut Writer<'_, W>,
    item: &Item<'_>,
    columns: usize,
    rotated: bool,
    buffers: &mut Buffers,
) -> Result<Vec<f32>, EmitError> {
    let row_bytes = columns.saturating_mul(item.from.size().unwrap_or(1) as usize).max(1);
    let rows = item.bytes.len() / row_bytes;
    let rows_per_block = (BLOCK / columns.max(1)).max(1);
    let mut scales = Vec::with_capacity(rows);
    for block in item.blocks(rows_per_block.saturating_mul(row_bytes)) {
        let block = block?;
        buffers.values.resize(block.len() / row_bytes * columns, 0.0);
        load(item.from, block, &mut buffers.values);
        buffers.out.clear();
        for row in buffers.values.chunks_exact_mut(columns.max(1)) {
            if rotated {
                rotate(row);
            }
            let max = max_abs(row).ok_or_else(|| ConvertError::NotFinite(item.name.into()))?;
            scales.push(store_i8_row(row, max, &mut buffers.out));
        }
        writer.write(&buffers.out)?;
    }
    Ok(scales)
}

/// Converts the residual of [`quantize`], reading the same rows again, because a whole matrix may be too large for
/// memory.
fn rests<W: Write + Seek>(
    writer: &mut Writer<'_, W>,
    item: &Item<'_>,
    columns: usize,
    scales: &[f32],
    buffers: &mut Buffers,
) -> Result<(), EmitError> {
    let row_bytes = columns.saturating_mul(item.from.size().unwrap_or(1) as usize).max(1);
    let rows_per_block = (BLOCK / columns.max(1)).max(1);
    let blocks = item.blocks(rows_per_block.saturating_mul(row_bytes));
    for (block, scales) in blocks.zip(scales.chunks(rows_per_block)) {
        let block = block?;
        buffers.values.resize(block.len() / row_bytes * columns, 0.0);
        load(item.from, block, &mut buffers.values);
        buffers.out.clear();
        for (row, &scale) in buffers.values.chunks_exact(columns.max(1)).zip(scales) {
            store_rest_row(row, scale, &mut buffers.out);
        }
        writer.write(&buffers.out)?;
    }
    Ok(())
}
