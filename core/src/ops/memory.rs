//! Region sizes that descriptors are checked against, and the plain memory that the references run on.

use half::{bf16, f16};

use crate::built;
use crate::{DType, Modulation, Region, TokenLayout, View, Weight};

/// A descriptor that does not fit its regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOp {
    /// The kernel's stem, or the tensor's role.
    pub at: &'static str,
    /// The mismatch.
    pub what: &'static str,
}

impl core::fmt::Display for InvalidOp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "invalid kernel arguments: {}: {}", self.at, self.what)
    }
}

impl core::error::Error for InvalidOp {}

/// The sizes of both regions, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of the model file.
    pub weights: usize,
    /// Bytes of the activation arena.
    pub arena: usize,
}

/// Returns `Err` with both strings unless the condition holds.
pub(crate) fn require(condition: bool, at: &'static str, what: &'static str) -> Result<(), InvalidOp> {
    if condition { Ok(()) } else { Err(InvalidOp { at, what }) }
}

impl Bounds {
    /// Checks that the view has elements, lies within its region and is aligned to its element size.
    ///
    /// No view that passes has a dimension of `usize::MAX`. Checks multiply sizes with `saturating_mul`, so a product
    /// that overflows never matches a view's shape.
    pub(crate) fn view(&self, at: &'static str, v: &View) -> Result<(), InvalidOp> {
        if let Some(what) = built::missing(v.dtype, v.region == Region::Weights) {
            return Err(InvalidOp { at, what });
        }
        let size = match v.region {
            Region::Weights => self.weights,
            Region::Arena => self.arena,
        };
        let end = v.len_bytes().and_then(|n| v.offset.checked_add(n));
        require(v.rows > 0 && v.cols > 0, at, "empty")?;
        require(v.stride >= v.cols, at, "stride below the row length")?;
        require(v.offset.is_multiple_of(v.dtype.size()), at, "misaligned")?;
        require(end.is_some_and(|end| end <= size), at, "outside its region")
    }

    /// An arena view without padding between its rows, of `len` bytes or more.
    pub(crate) fn transfer(&self, at: &'static str, v: &View, len: usize) -> Result<(), InvalidOp> {
        self.output(at, v, &[])?;
        require(v.rows == 1 || v.stride == v.cols, at, "padded rows")?;
        require(v.len_bytes().is_some_and(|n| len <= n), at, "more bytes than the view has")
    }

    /// A readable matrix of this shape and type.
    pub(crate) fn shaped(
        &self,
        at: &'static str,
        v: &View,
        dtype: DType,
        rows: usize,
        cols: usize,
    ) -> Result<(), InvalidOp> {
        self.view(at, v)?;
        require(v.dtype == dtype, at, "wrong element type")?;
        require(v.rows == rows && v.cols == cols, at, "wrong shape")
    }

    /// A writable matrix that shares no byte with `inputs`.
    pub(crate) fn output(&self, at: &'static str, v: &View, inputs: &[&View]) -> Result<(), InvalidOp> {
        self.view(at, v)?;
        require(v.region == Region::Arena, at, "output outside the arena")?;
        require(!inputs.iter().any(|i| i.overlaps(v)), at, "output overlaps an input")
    }

    /// Activations that a kernel writes: f32 or 16-bit without scales, int8 with one scale per row.
    pub(crate) fn activations(
        &self,
        at: &'static str,
        out: &View,
        scale: &Option<View>,
        inputs: &[&View],
    ) -> Result<(), InvalidOp> {
        self.output(at, out, inputs)?;
        require(out.dtype != DType::U32, at, "wrong element type")?;
        require(scale.is_some() == (out.dtype == DType::I8), at, "int8 needs row scales, other types have none")?;
        if let Some(scale) = scale {
            self.shaped(at, scale, DType::F32, 1, out.rows)?;
            self.output(at, scale, inputs)?;
            require(!scale.overlaps(out), at, "scales overlap the output")?;
        }
        Ok(())
    }

    pub(crate) fn weight(&self, at: &'static str, w: &Weight, rows: usize, cols: usize) -> Result<(), InvalidOp> {
        self.view(at, &w.data)?;
        require(w.data.rows == rows && w.data.cols == cols, at, "wrong shape")?;
        require(w.data.dtype != DType::U32, at, "wrong element type")?;
        require(w.scale.is_some() == (w.data.dtype == DType::I8), at, "int8 needs row scales, other types have none")?;
        w.scale.as_ref().map_or(Ok(()), |s| self.shaped(at, s, DType::F32, 1, rows))?;
        require(w.residual.is_none() || w.scale.is_some(), at, "only int8 has a residual")?;
        w.residual().map_or(Ok(()), |residual| self.view(at, &residual))
    }

    /// A modulation table whose columns `column..column + width` exist for every image of the layout. The row numbers
    /// are data; core only writes numbers below `table.rows`.
    pub(crate) fn modulation(
        &self,
        at: &'static str,
        m: &Modulation,
        layout: &TokenLayout,
        column: usize,
        width: usize,
    ) -> Result<(), InvalidOp> {
        self.view(at, &m.table)?;
        require(m.table.dtype == DType::F32, at, "modulation table is not f32")?;
        require(
            column.checked_add(width).is_some_and(|end| end <= m.table.cols),
            at,
            "column outside the modulation table",
        )?;
        self.shaped(at, &m.rows, DType::U32, 1, layout.images)
    }
}

/// Both regions as plain bytes, on which the references run.
#[derive(Debug)]
pub struct Memory<'a> {
    /// [`Region::Weights`].
    pub weights: &'a [u8],
    /// [`Region::Arena`].
    pub arena: &'a mut [u8],
}

impl Memory<'_> {
    fn bytes<const N: usize>(&self, v: &View, r: usize, c: usize) -> [u8; N] {
        let at = v.offset + (r * v.stride + c) * N;
        let mut bytes = [0; N];
        bytes.copy_from_slice(match v.region {
            Region::Weights => &self.weights[at..at + N],
            Region::Arena => &self.arena[at..at + N],
        });
        bytes
    }

    /// Element `(r, c)`, widened.
    pub fn load(&self, v: &View, r: usize, c: usize) -> f64 {
        match v.dtype {
            DType::F32 => f32::from_le_bytes(self.bytes(v, r, c)).into(),
            DType::F16 => f16::from_le_bytes(self.bytes(v, r, c)).into(),
            DType::BF16 => bf16::from_le_bytes(self.bytes(v, r, c)).into(),
            DType::I8 => i8::from_le_bytes(self.bytes(v, r, c)).into(),
            DType::U32 => self.index(v, r, c) as f64,
        }
    }

    /// Element `(r, c)` of a u32 view.
    pub fn index(&self, v: &View, r: usize, c: usize) -> usize {
        u32::from_le_bytes(self.bytes(v, r, c)) as usize
    }

    /// Rounds once to the view's type and writes. For int8 use [`Memory::store_row`].
    pub fn store(&mut self, v: &View, r: usize, c: usize, value: f64) {
        let at = v.offset + (r * v.stride + c) * v.dtype.size();
        let to = &mut self.arena[at..at + v.dtype.size()];
        match v.dtype {
            DType::F32 => to.copy_from_slice(&(value as f32).to_le_bytes()),
            DType::F16 => to.copy_from_slice(&f16::from_f32(round_to_odd(value)).to_le_bytes()),
            DType::BF16 => to.copy_from_slice(&bf16::from_f32(round_to_odd(value)).to_le_bytes()),
            DType::I8 => to.copy_from_slice(&(value as i8).to_le_bytes()),
            DType::U32 => to.copy_from_slice(&(value as u32).to_le_bytes()),
        }
    }

    /// Writes a row of activations; for an int8 view, quantises it like [`QuantizeRows`](super::QuantizeRows).
    pub fn store_row(&mut self, out: &View, scale: Option<&View>, r: usize, value: impl Fn(&Self, usize) -> f64) {
        let Some(scale) = scale else {
            for c in 0..out.cols {
                let x = value(self, c);
                self.store(out, r, c, x);
            }
            return;
        };
        let max = (0..out.cols).fold(0f32, |max, c| max_magnitude(max, value(self, c) as f32));
        let inverse = Some(127.0 / max).filter(|x| x.is_finite()).unwrap_or(0.0);
        self.store(scale, 0, r, f64::from(scale_of(max)));
        for c in 0..out.cols {
            let q = libm::rintf(value(self, c) as f32 * inverse);
            self.store(out, r, c, f64::from(q));
        }
    }

    /// Element `column` of the modulation vector for an image.
    pub fn modulation(&self, m: &Modulation, image: usize, column: usize) -> f64 {
        self.load(&m.table, self.index(&m.rows, 0, image), column)
    }
}

/// The larger of `a`, which is not negative, and `|x|`; of anything and an infinity or a NaN the latter.
pub(crate) fn max_magnitude(a: f32, x: f32) -> f32 {
    f32::from_bits(a.to_bits().max(x.abs().to_bits()))
}

/// The scale of an int8 row by its largest magnitude: NaN where that is not finite, so that no product hides it.
pub(crate) fn scale_of(max: f32) -> f32 {
    if max.is_finite() { max / 127.0 } else { f32::NAN }
}

/// Rounds to odd: a second, narrower rounding of the result then gives the same as rounding `value` directly. Of the
/// two f32 around an inexact value, this is the one with an odd significand, which is never a tie. (`half` drops bits
/// of an f64 before it rounds.)
fn round_to_odd(value: f64) -> f32 {
    let x = value as f32;
    let (bits, back) = (x.to_bits(), f64::from(x));
    if back == value || bits & 1 == 1 {
        return x;
    }
    f32::from_bits(if back.abs() > value.abs() { bits - 1 } else { bits + 1 })
}

pub(crate) fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}
