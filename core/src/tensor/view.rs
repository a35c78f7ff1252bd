//! Views: descriptors of matrices that work for slices, buffer objects and device pointers alike.

use crate::DType;
use crate::QuantResidual;

/// One of the two memories that a backend owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// The model file's bytes, read-only.
    Weights,
    /// The activation arena, laid out by a [`Plan`](crate::models::network::Plan).
    Arena,
}

/// A row-major matrix inside a region. Rows may be padded: element `(r, c)` is `offset + (r * stride + c) * size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The memory it lies in.
    pub region: Region,
    /// Element type.
    pub dtype: DType,
    /// First byte, from the start of the region.
    pub offset: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of elements per row.
    pub cols: usize,
    /// Elements from one row to the next, at least `cols`.
    pub stride: usize,
}

impl View {
    /// A matrix without padding between its rows.
    pub const fn dense(region: Region, dtype: DType, offset: usize, rows: usize, cols: usize) -> View {
        View { region, dtype, offset, rows, cols, stride: cols }
    }

    /// Rows `start..start + count`. The kernel that uses the result checks it. An offset that overflows saturates, and
    /// so lies outside every region.
    pub const fn rows_from(self, start: usize, count: usize) -> View {
        let bytes = start.saturating_mul(self.stride).saturating_mul(self.dtype.size());
        View { offset: self.offset.saturating_add(bytes), rows: count, ..self }
    }

    /// Columns `start..start + count`, checked like the rows of [`View::rows_from`].
    pub const fn cols_from(self, start: usize, count: usize) -> View {
        let bytes = start.saturating_mul(self.dtype.size());
        View { offset: self.offset.saturating_add(bytes), cols: count, ..self }
    }

    /// Bytes from the first element to the end of the last one; `None` when that overflows.
    pub const fn len_bytes(&self) -> Option<usize> {
        if self.rows == 0 || self.cols == 0 {
            return Some(0);
        }
        let Some(full_rows) = (self.rows - 1).checked_mul(self.stride) else { return None };
        let Some(elements) = full_rows.checked_add(self.cols) else { return None };
        elements.checked_mul(self.dtype.size())
    }

    /// Iterates over its rows in the bytes of its region, without padding.
    ///
    /// # Panics
    /// The iterator panics if the region is shorter than the view.
    pub fn rows_in<'b>(&self, region: &'b [u8]) -> impl ExactSizeIterator<Item = &'b [u8]> + use<'b> {
        let View { offset, rows, cols, stride, dtype, .. } = *self;
        (0..rows).map(move |r| &region[offset + r * stride * dtype.size()..][..cols * dtype.size()])
    }

    /// Returns whether two views share a byte.
    pub(crate) fn overlaps(&self, other: &View) -> bool {
        let end = |v: &View| v.len_bytes().map_or(usize::MAX, |n| v.offset.saturating_add(n));
        self.region == other.region && self.offset < end(other) && other.offset < end(self)
    }
}

/// A weight matrix `(out, in)`, with the per-row scales that [`DType::I8`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weight {
    /// `(out, in)`, in any weight type.
    pub data: View,
    /// `(1, out)` f32: the scale of each row of `data`. Present only for int8, and always then.
    pub scale: Option<View>,
    /// Offset in the model file of the dense matrix of int8 residuals, for the product with a
    /// [`SharedMean`](crate::ops::SharedMean); see [`QuantResidual`]. Only for int8.
    pub residual: Option<usize>,
}

impl Weight {
    /// `(out, QuantResidual::bytes(in))` int8.
    pub fn residual(&self) -> Option<View> {
        let View { rows, cols, .. } = self.data;
        self.residual.map(|offset| View::dense(Region::Weights, DType::I8, offset, rows, QuantResidual::bytes(cols)))
    }
}

/// The order of rows in a token matrix: first `image_tokens` rows for each image in turn, then `context_tokens` rows
/// for each image in turn. Linear layers see one contiguous matrix with or without context tokens, which are added or
/// dropped without a copy.
///
/// Numbers that overflow saturate. No view has that many rows, so every kernel rejects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenLayout {
    /// Images in the batch, both guidance branches counted.
    pub images: usize,
    /// Patches per image.
    pub image_tokens: usize,
    /// In-context tokens per image, 0 before the block that adds them.
    pub context_tokens: usize,
}

impl TokenLayout {
    /// Rows of the image tokens only.
    pub const fn image_rows(&self) -> usize {
        self.images.saturating_mul(self.image_tokens)
    }

    /// All rows.
    pub const fn rows(&self) -> usize {
        self.images.saturating_mul(self.tokens())
    }

    /// Tokens per image.
    pub const fn tokens(&self) -> usize {
        self.image_tokens.saturating_add(self.context_tokens)
    }

    /// The image that a row belongs to.
    pub const fn image_of(&self, row: usize) -> usize {
        if self.images == 1 {
            // Kernels ask for each of their rows, and divisions are slow.
            return 0;
        }
        if row < self.image_rows() { row / self.image_tokens } else { (row - self.image_rows()) / self.context_tokens }
    }

    /// The image that a row belongs to, and the number of consecutive rows from it that belong to the same image.
    pub(crate) const fn run_from(&self, row: usize) -> (usize, usize) {
        let image = self.image_of(row);
        let end = if row < self.image_rows() {
            (image + 1) * self.image_tokens
        } else {
            self.image_rows() + (image + 1) * self.context_tokens
        };
        (image, end - row)
    }

    /// The row of token `token` of image `image`; image tokens come first.
    pub const fn row_of(&self, image: usize, token: usize) -> usize {
        if token < self.image_tokens {
            image * self.image_tokens + token
        } else {
            self.image_rows() + image * self.context_tokens + (token - self.image_tokens)
        }
    }
}

/// Per-image vectors (shift, scale, gate) from the table for all steps of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Modulation {
    /// `(rows, width)` f32: adaLN outputs of every block, one row for each (t, label).
    pub table: View,
    /// `(1, images)` u32: the row of `table` that each image uses in this evaluation.
    pub rows: View,
}
