/// Tiles of the tensor-core linear kernels: rows × columns of output per block, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinearTile {
    T128x128,
    T64x128,
    T96x64,
    T32x64,
}

impl LinearTile {
    /// All tiles.
    pub const ALL: [LinearTile; 4] =
        [LinearTile::T128x128, LinearTile::T64x128, LinearTile::T96x64, LinearTile::T32x64];

    /// The tile's name in kernel names.
    pub const fn name(self) -> &'static str {
        ["128x128", "64x128", "96x64", "32x64"][self as usize]
    }
}
