use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// `(C, H, W)` images to rows of patches: tokens row-major over the grid, values (channel, row, column).
#[derive(Clone, Copy, Debug)]
pub struct Patchify {
    /// `(sources, C · H · W)` f32. Output image `i` is source `i mod sources`, so both guidance branches read one.
    pub image: View,
    /// Patches per side.
    pub grid: usize,
    /// Pixels per patch side.
    pub patch: usize,
    /// `(images · grid · grid, C · patch · patch)` in f32 or a 16-bit type.
    pub out: View,
}

impl Patchify {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "patchify";
        let tokens = self.grid.saturating_mul(self.grid);
        bounds.view(AT, &self.image)?;
        require(self.image.dtype == DType::F32, AT, "wrong image")?;
        require(tokens > 0 && self.patch > 0, AT, "empty grid")?;
        require(self.out.rows.is_multiple_of(tokens), AT, "wrong number of rows")?;
        require(self.image.cols == self.out.cols.saturating_mul(tokens), AT, "wrong shape")?;
        let values = self.patch.saturating_mul(self.patch);
        require(self.out.cols.is_multiple_of(values), AT, "patch does not divide the row")?;
        bounds.activations(AT, &self.out, &None, &[&self.image])
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let (grid, patch, side) = (self.grid, self.patch, self.grid * self.patch);
        for r in 0..self.out.rows {
            let (image, token) = (r / (grid * grid), r % (grid * grid));
            for c in 0..self.out.cols {
                let (channel, row, column) = (c / (patch * patch), c / patch % patch, c % patch);
                let (y, x) = (token / grid * patch + row, token % grid * patch + column);
                let value = mem.load(&self.image, image % self.image.rows, (channel * side + y) * side + x);
                mem.store(&self.out, r, c, value);
            }
        }
    }
}
