//! Weights as views into the model file: types that the networks share, and the checked lookup.

use crate::QuantResidual;
use crate::gguf::{GgmlType, Gguf, GgufError, Name, TensorInfo, Value, keys};
use crate::models::error::ModelError;
use crate::ops::{BLOCK, BLOCK_BYTES, Epilogue, Linear, ROTATION};
use crate::{DType, Region, View, Weight};

/// A linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// `(out, in)`.
    pub weight: Weight,
    /// `(1, out)` f32.
    pub bias: Option<View>,
}

impl Dense {
    fn rows_from(&self, start: usize, count: usize) -> Dense {
        let Weight { data, scale, residual } = self.weight;
        let vector = |view: Option<View>| view.map(|view| view.cols_from(start, count));
        let residual =
            residual.map(|residual| residual.saturating_add(start.saturating_mul(QuantResidual::bytes(data.cols))));
        let weight = Weight { data: data.rows_from(start, count), scale: vector(scale), residual };
        Dense { weight, bias: vector(self.bias) }
    }

    /// `out = epilogue(x · wᵀ + bias)`.
    pub(crate) const fn of(&self, x: View, x_scale: Option<View>, out: View, epilogue: Epilogue) -> Linear {
        Linear { x, x_scale, shared_mean: None, w: self.weight, bias: self.bias, out, epilogue }
    }
}

/// The two layers of SwiGLU, which are stored as one.
#[derive(Clone, Copy, Debug)]
pub struct GatedPair {
    /// `(2 · ffn_hidden, hidden)`: both, for a device that multiplies them as one matrix.
    pub both: Dense,
    /// `(ffn_hidden, hidden)`: the first half of the rows.
    pub gate: Dense,
    /// `(ffn_hidden, hidden)`: the second half, the values that are gated.
    pub value: Dense,
}

impl GatedPair {
    pub(crate) fn new(both: Dense) -> GatedPair {
        let half = both.weight.data.rows / 2;
        GatedPair { both, gate: both.rows_from(0, half), value: both.rows_from(half, half) }
    }
}

/// A matrix as stored in published files.
#[derive(Clone, Copy, Debug)]
pub enum Matrix {
    /// A matrix in a type that linear layers accept.
    Plain(Weight),
    /// Q8_0 blocks: `(rows, columns / 32 · 34)` bytes, dequantised before the linear layer.
    Blocks(View),
}

impl Matrix {
    /// The weight, if linear layers accept its type.
    pub const fn plain(&self) -> Option<&Weight> {
        match self {
            Matrix::Plain(weight) => Some(weight),
            Matrix::Blocks(_) => None,
        }
    }

    /// The name of its type on the command line.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Matrix::Plain(weight) => weight.data.dtype.name(),
            Matrix::Blocks(_) => "q8_0",
        }
    }
}

/// One block's weights.
#[derive(Clone, Copy, Debug)]
pub struct BlockParams {
    /// `(1, hidden)` f32.
    pub norm1: View,
    /// `(3 · hidden, hidden)`.
    pub qkv: Dense,
    /// `(1, head_dim)` f32.
    pub q_norm: View,
    /// `(1, head_dim)` f32.
    pub k_norm: View,
    /// `(hidden, hidden)` and bias.
    pub proj: Dense,
    /// `(1, hidden)` f32.
    pub norm2: View,
    /// `(2 · ffn_hidden, hidden)`.
    pub w12: GatedPair,
    /// `(hidden, ffn_hidden)`.
    pub w3: Dense,
    /// Whether `w3` is rotated, so that its input must be rotated too ([`rotate`](crate::ops::rotate)).
    pub rotated: bool,
    /// `(6 · hidden, hidden)` and bias.
    pub modulation: Dense,
}

impl BlockParams {
    /// The matrices that every evaluation reads, split as for a backend that fuses SwiGLU.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = Weight> + Clone + use<> {
        [self.qkv, self.proj, self.w12.gate, self.w12.value, self.w3].into_iter().map(|layer| layer.weight)
    }
}

/// Looks tensors up by name and checks them.
pub(crate) struct Tensors<'g> {
    pub(crate) gguf: &'g Gguf<'g>,
    /// Whether the last layers of the feed-forward networks are rotated.
    pub(crate) rotated: bool,
}

impl<'g> Tensors<'g> {
    pub(crate) fn new(gguf: &'g Gguf<'g>) -> Result<Self, ModelError> {
        const KEY: &str = keys::FEED_FORWARD_ROTATION;
        let rotated = match gguf.value(KEY).map(Value::as_u32) {
            None => false,
            Some(Some(n)) if n as usize == ROTATION => true,
            Some(_) => return Err(ModelError::Config { key: KEY, rule: "must be 16, or absent" }),
        };
        Ok(Tensors { gguf, rotated })
    }

    fn find(&self, name: core::fmt::Arguments<'_>) -> Result<(Name, TensorInfo<'_>), ModelError> {
        let mut text = Name::new();
        // A name that does not fit is cut, and is then not in the file.
        let _ = core::fmt::write(&mut text, name);
        let tensor = self.gguf.tensor(&text)?;
        Ok((text, tensor))
    }

    /// A matrix of this shape; leading or trailing dimensions of size 1 and a convolution's window count as one row.
    pub(crate) fn view(
        &self,
        name: core::fmt::Arguments<'_>,
        rows: usize,
        cols: usize,
    ) -> Result<(Name, View), ModelError> {
        let (name, tensor) = self.find(name)?;
        let Some(dtype) = tensor.ggml_type.dtype() else {
            return Err(ModelError::TensorType { name });
        };
        // On 32 bits the product of two valid sizes may not fit.
        let fits = rows.checked_mul(cols) == Some(tensor.dims.elements()) && splits(&tensor.dims, rows, cols);
        if !fits {
            return Err(ModelError::Shape { name, rows, cols });
        }
        let offset = usize::try_from(tensor.offset).map_err(|_| ModelError::TooLarge)?;
        if !offset.is_multiple_of(dtype.size()) {
            return Err(ModelError::Misaligned { name });
        }
        Ok((name, View::dense(Region::Weights, dtype, offset, rows, cols)))
    }

    pub(crate) fn float(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<View, ModelError> {
        let (name, view) = self.view(name, rows, cols)?;
        if view.dtype != DType::F32 {
            return Err(ModelError::TensorType { name });
        }
        Ok(view)
    }

    pub(crate) fn wide_float(
        &self,
        name: core::fmt::Arguments<'_>,
        rows: usize,
        cols: usize,
    ) -> Result<View, ModelError> {
        let (name, view) = self.view(name, rows, cols)?;
        match view.dtype {
            DType::F32 | DType::F16 | DType::BF16 => Ok(view),
            DType::I8 | DType::U32 => Err(ModelError::TensorType { name }),
        }
    }

    pub(crate) fn weight(
        &self,
        name: core::fmt::Arguments<'_>,
        rows: usize,
        cols: usize,
    ) -> Result<Weight, ModelError> {
        let (name, data) = self.view(name, rows, cols)?;
        if data.dtype != DType::I8 {
            return Ok(Weight { data, scale: None, residual: None });
        }
        let scale = Some(self.float(format_args!("{name}{}", keys::SCALE_SUFFIX), 1, rows)?);
        let residual = match self.view(format_args!("{name}{}", keys::REST_SUFFIX), rows, QuantResidual::bytes(cols)) {
            Err(ModelError::Gguf(GgufError::MissingTensor(_))) => None,
            Ok((_, residual)) if residual.dtype == DType::I8 => Some(residual.offset),
            Ok((name, _)) => return Err(ModelError::TensorType { name }),
            Err(e) => return Err(e),
        };
        Ok(Weight { data, scale, residual })
    }

    /// A matrix in any weight type, including Q8_0 blocks.
    pub(crate) fn matrix(
        &self,
        name: core::fmt::Arguments<'_>,
        rows: usize,
        cols: usize,
    ) -> Result<Matrix, ModelError> {
        let (text, tensor) = self.find(name)?;
        if tensor.ggml_type != GgmlType::Q8_0 {
            return self.weight(name, rows, cols).map(Matrix::Plain);
        }
        if tensor.dims.as_slice() != [rows, cols] || !cols.is_multiple_of(BLOCK) {
            return Err(ModelError::Shape { name: text, rows, cols });
        }
        let offset = usize::try_from(tensor.offset).map_err(|_| ModelError::TooLarge)?;
        Ok(Matrix::Blocks(View::dense(Region::Weights, DType::I8, offset, rows, cols / BLOCK * BLOCK_BYTES)))
    }

    /// A layer with a bias.
    pub(crate) fn affine(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<Dense, ModelError> {
        let bias = Some(self.float(format_args!("{name}.bias"), 1, rows)?);
        Ok(Dense { bias, ..self.linear(name, rows, cols)? })
    }

    /// A layer without a bias.
    pub(crate) fn linear(&self, name: core::fmt::Arguments<'_>, rows: usize, cols: usize) -> Result<Dense, ModelError> {
        Ok(Dense { weight: self.weight(format_args!("{name}.weight"), rows, cols)?, bias: None })
    }
}

/// Returns whether the leading dimensions multiply to `rows` and the others to `cols`.
fn splits(dims: &[usize], rows: usize, cols: usize) -> bool {
    (0..=dims.len()).any(|at| {
        let (outer, inner) = dims.split_at(at);
        outer.iter().product::<usize>() == rows && inner.iter().product::<usize>() == cols
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_beyond_the_address_space_is_refused() {
        // One tensor, "t", of two f32.
        let mut file = [0; 128];
        let fields: [&[u8]; 8] = [
            b"GGUF",
            &[3, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[0; 8],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            b"t",
            &[1, 0, 0, 0],
            &[2],
        ];
        let mut at = 0;
        for field in fields {
            file[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        let gguf = Gguf::parse(&file).unwrap();
        let file = Tensors::new(&gguf).unwrap();
        assert!(file.view(format_args!("t"), 2, 1).is_ok());
        let half = 1usize << (usize::BITS - 2);
        // Products that wrap to 2, and to more than that.
        for (rows, cols) in [(half, 4), (usize::MAX, 2), (half + 1, 4), (2 * half + 1, 2)] {
            let refused = file.view(format_args!("t"), rows, cols);
            assert!(matches!(refused, Err(ModelError::Shape { .. })), "{rows} by {cols}");
        }
    }
}
