use super::SharedMean;
use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, Modulation, TokenLayout, View};

/// `out = x / √(mean(x²) + eps) · weight · (1 + scale) + shift`, row by row, with shift and scale per image; minus the
/// image's shared mean if requested.
///
/// The squares are summed in f32, as upstream does: values from 1e18 on may overflow them.
#[derive(Clone, Copy, Debug)]
pub struct NormModulate {
    /// `(rows, hidden)` f32.
    pub x: View,
    /// `(1, hidden)` f32.
    pub weight: View,
    /// Added under the square root.
    pub eps: f32,
    /// The modulation table with shift and scale.
    pub modulation: Modulation,
    /// First column of the shift.
    pub shift: usize,
    /// First column of the scale.
    pub scale: usize,
    /// The mapping from rows to images.
    pub layout: TokenLayout,
    /// `(rows, hidden)` in the type that the next linear layer takes.
    pub out: View,
    /// `(1, rows)` f32, for int8 `out` only.
    pub out_scale: Option<View>,
    /// The output for the shared mean, if it is to be subtracted; int8 `out` only.
    pub shared_mean: Option<SharedMean>,
}

impl NormModulate {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "norm_modulate";
        let (rows, hidden) = (self.layout.rows(), self.out.cols);
        require(self.out.rows == rows, AT, "the layout has another number of rows")?;
        bounds.shaped(AT, &self.x, DType::F32, rows, hidden)?;
        bounds.shaped(AT, &self.weight, DType::F32, 1, hidden)?;
        bounds.modulation(AT, &self.modulation, &self.layout, self.shift, hidden)?;
        bounds.modulation(AT, &self.modulation, &self.layout, self.scale, hidden)?;
        let Modulation { table, rows } = &self.modulation;
        let inputs = [&self.x, &self.weight, table, rows];
        bounds.activations(AT, &self.out, &self.out_scale, &inputs)?;
        let outputs = (&self.out, &self.out_scale);
        self.shared_mean.as_ref().map_or(Ok(()), |shared_mean| shared_mean.check_output(AT, bounds, outputs, &inputs))
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        if let Some(shared_mean) = &self.shared_mean {
            shared_mean.reference(mem, |mem, r, c| self.element(mem, self.root(mem, r), r, c));
        }
        for r in 0..self.x.rows {
            let (root, image) = (self.root(mem, r), self.layout.image_of(r));
            mem.store_row(&self.out, self.out_scale.as_ref(), r, |mem, c| {
                let shared_mean = self.shared_mean.map_or(0.0, |shared_mean| mem.load(&shared_mean.value, image, c));
                self.element(mem, root, r, c) - shared_mean
            });
        }
    }

    fn root(&self, mem: &Memory<'_>, r: usize) -> f64 {
        let squares = (0..self.x.cols).map(|c| mem.load(&self.x, r, c)).map(|x| x * x);
        libm::sqrt(squares.sum::<f64>() / self.x.cols as f64 + f64::from(self.eps))
    }

    fn element(&self, mem: &Memory<'_>, root: f64, r: usize, c: usize) -> f64 {
        let image = self.layout.image_of(r);
        let normed = mem.load(&self.x, r, c) / root * mem.load(&self.weight, 0, c);
        let scale = mem.modulation(&self.modulation, image, self.scale + c);
        normed * (1.0 + scale) + mem.modulation(&self.modulation, image, self.shift + c)
    }
}
