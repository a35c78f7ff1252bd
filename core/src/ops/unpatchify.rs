use super::memory::{Bounds, InvalidOp, Memory, require};
use crate::{DType, View};

/// The order of a token's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// (row, column, channel): class-conditional models.
    ChannelLast,
    /// (channel, row, column): text-to-image models.
    ChannelFirst,
}

/// Rows of patches back to `(C, H, W)` images.
#[derive(Clone, Copy, Debug)]
pub struct Unpatchify {
    /// `(images · grid · grid, C · patch · patch)` f32.
    pub x: View,
    /// Patches per side.
    pub grid: usize,
    /// Pixels per patch side.
    pub patch: usize,
    /// Order of a token's values.
    pub order: PixelOrder,
    /// `(images, C · H · W)` f32.
    pub out: View,
}

impl Unpatchify {
    /// # Errors
    /// [`InvalidOp`] if a view lies outside its region, or if shapes or types do not match.
    pub fn check(&self, bounds: &Bounds) -> Result<(), InvalidOp> {
        const AT: &str = "unpatchify";
        let tokens = self.grid.saturating_mul(self.grid);
        bounds.shaped(AT, &self.x, DType::F32, self.out.rows.saturating_mul(tokens), self.x.cols)?;
        require(tokens > 0 && self.patch > 0, AT, "empty grid")?;
        let values = self.patch.saturating_mul(self.patch);
        require(self.x.cols.is_multiple_of(values), AT, "patch does not divide the row")?;
        bounds.output(AT, &self.out, &[&self.x])?;
        bounds.shaped(AT, &self.out, DType::F32, self.out.rows, self.x.cols.saturating_mul(tokens))
    }

    pub(crate) fn reference(&self, mem: &mut Memory<'_>) {
        let (grid, patch, side) = (self.grid, self.patch, self.grid * self.patch);
        let channels = self.x.cols / (patch * patch);
        for image in 0..self.out.rows {
            for c in 0..self.out.cols {
                let (channel, y, x) = (c / (side * side), c / side % side, c % side);
                let (row, column) = (y % patch, x % patch);
                let within = match self.order {
                    PixelOrder::ChannelLast => (row * patch + column) * channels + channel,
                    PixelOrder::ChannelFirst => (channel * patch + row) * patch + column,
                };
                let token = y / patch * grid + x / patch;
                let value = mem.load(&self.x, image * grid * grid + token, within);
                mem.store(&self.out, image, c, value);
            }
        }
    }
}
