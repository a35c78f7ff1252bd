use super::SharedMean;
use super::memory::{Bounds, InvalidOp, Memory, require, silu};
use crate::QuantResidual;
use crate::{DType, Modulation, TokenLayout, View, Weight};

/// `out = epilogue(x · wᵀ + bias)`, accumulated in f32 (i32 for int8), for `x (m, k)` and `w (n, k)`.
///
/// | `w` | `x` | product |
/// |---|---|---|
/// | f32 | f32 | f32 |
/// | f16, bf16 | f32 | weights widened to f32 |
/// | f16, bf16 | the weight's type | 16-bit products, f32 sums |
/// | int8 | int8 with `x_scale` | i32 sums, then `· x_scale[row] · w.scale[column]` |
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `(m, k)`.
    pub x: View,
    /// `(1, m)` f32, for int8 `x` only.
    pub x_scale: Option<View>,
    /// The shared mean that was subtracted from `x` and whose product must be added; int8 only. This product uses
    /// `w.residual`.
    pub shared_mean: Option<SharedMean>,
    /// `(n, k)`, in the model file or, if dequantised, in the arena.
    pub w: Weight,
    /// `(1, n)` f32.
    pub bias: Option<View>,
    /// `(m, n)` f32, or any float type with [`Epilogue::Swiglu`]. Also read with [`Epilogue::Residual`] and
    /// [`Epilogue::GatedResidual`].
    pub out: View,
    /// The operation on each sum before it is written.
    pub epilogue: Epilogue,
}

/// The operation of a linear layer on `y = x · wᵀ + bias` before it writes the result.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue {
    /// `out = y`.
    Store,
    /// `out = SiLU(y)`.
    Silu,
    /// `out[r] = y[r] + table[r mod period]`: the position embedding, `(period, n)` f32.
    AddPeriodic(View),
    /// `out = SiLU(x · gateᵀ + bias) · y`: both halves of SwiGLU's first layer at once; neither is written to memory.
    Swiglu {
        /// `(n, k)` in the type of `w`.
        gate: Weight,
        /// `(1, n)` f32: scales of the gate.
        bias: Option<View>,
    },
    /// `out = out + y`: the end of a residual branch.
    Residual,
    /// `out[r] += gate[image of r] · y[r]`: the end of a residual branch.
    GatedResidual {
        /// The modulation table with the gates.
        modulation: Modulation,
        /// First column of the gate in the table.
        gate: usize,
        /// The mapping from rows to images.
        layout: TokenLayout,
    },
}

impl Linear {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "linear";
        let (m, k, n) = (self.x.rows, self.x.cols, self.out.cols);
        bounds.view(AT, &self.x)?;
        bounds.weight(AT, &self.w, n, k)?;
        let (x, w) = (self.x.dtype, self.w.data.dtype);
        require(x == w || (x == DType::F32 && w != DType::I8), AT, "activation type does not go with the weight type")?;
        require(self.x_scale.is_some() == (x == DType::I8), AT, "int8 needs row scales, other types have none")?;
        if let Some(scale) = &self.x_scale {
            bounds.shaped(AT, scale, DType::F32, 1, m)?;
        }
        if let Some(shared_mean) = &self.shared_mean {
            shared_mean.check_input(AT, bounds, &self.x, &self.out)?;
        }
        if let Some(bias) = &self.bias {
            bounds.shaped(AT, bias, DType::F32, 1, n)?;
        }
        let vectors = [self.x_scale, self.w.scale, self.bias];
        require(!vectors.iter().flatten().any(|v| v.overlaps(&self.out)), AT, "output overlaps an input")?;
        bounds.output(AT, &self.out, &[&self.x, &self.w.data])?;
        let out = match self.epilogue {
            Epilogue::Swiglu { .. } => self.out.dtype,
            _ => DType::F32,
        };
        require(matches!(out, DType::F32 | DType::F16 | DType::BF16), AT, "wrong element type")?;
        bounds.shaped(AT, &self.out, out, m, n)?;
        match &self.epilogue {
            Epilogue::Store | Epilogue::Silu | Epilogue::Residual => Ok(()),
            Epilogue::Swiglu { gate, bias } => {
                bounds.weight(AT, gate, n, k)?;
                require(gate.data.dtype == w, AT, "the gate has another type than the weights")?;
                bias.as_ref().map_or(Ok(()), |bias| bounds.shaped(AT, bias, DType::F32, 1, n))?;
                let vectors = [Some(gate.data), gate.scale, *bias];
                require(!vectors.iter().flatten().any(|v| v.overlaps(&self.out)), AT, "output overlaps an input")
            }
            Epilogue::AddPeriodic(table) => {
                bounds.shaped(AT, table, DType::F32, table.rows, n)?;
                bounds.output(AT, &self.out, &[table])
            }
            Epilogue::GatedResidual { modulation, gate, layout } => {
                require(layout.rows() == m, AT, "the layout has another number of rows")?;
                bounds.modulation(AT, modulation, layout, *gate, n)?;
                bounds.output(AT, &self.out, &[&modulation.table, &modulation.rows])
            }
        }
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        for r in 0..self.out.rows {
            for c in 0..self.out.cols {
                let y = self.product(mem, &self.w, self.bias.as_ref(), r, c);
                let y = match &self.epilogue {
                    Epilogue::Store => y,
                    Epilogue::Silu => silu(y),
                    Epilogue::Swiglu { gate, bias } => silu(self.product(mem, gate, bias.as_ref(), r, c)) * y,
                    Epilogue::Residual => mem.load(&self.out, r, c) + y,
                    Epilogue::AddPeriodic(table) => y + mem.load(table, r % table.rows, c),
                    Epilogue::GatedResidual { modulation, gate, layout } => {
                        mem.load(&self.out, r, c) + y * mem.modulation(modulation, layout.image_of(r), gate + c)
                    }
                };
                mem.store(&self.out, r, c, y);
            }
        }
    }

    /// `x · wᵀ + bias`, including the shared mean subtracted from `x`.
    fn product(&self, mem: &Memory<'_>, w: &Weight, bias: Option<&View>, r: usize, c: usize) -> f64 {
        let columns = 0..self.x.cols;
        let w_scale = w.scale.map_or(1.0, |s| mem.load(&s, 0, c));
        let mut y = columns.clone().map(|k| mem.load(&self.x, r, k) * mem.load(&w.data, c, k)).sum::<f64>();
        y *= self.x_scale.map_or(1.0, |s| mem.load(&s, 0, r)) * w_scale;
        if let Some(shared_mean) = &self.shared_mean {
            let image = shared_mean.layout.image_of(r);
            let product = columns.map(|k| mem.load(&shared_mean.row, image, k) * finer(mem, w, c, k));
            y += product.sum::<f64>() * mem.load(&shared_mean.scale, 0, image) * w_scale;
        }
        y + bias.map_or(0.0, |b| mem.load(b, 0, c))
    }
}

/// A weight plus its residual, in steps.
fn finer(mem: &Memory<'_>, w: &Weight, row: usize, k: usize) -> f64 {
    let (byte, bit) = QuantResidual::place(k);
    let rest = w.residual().map_or(0.0, |rest| QuantResidual::value(mem.load(&rest, row, byte) as i8 as u8 >> bit & 3));
    mem.load(&w.data, row, k) + f64::from(rest)
}
