/// Tiles of the tensor-core linear kernels: rows × columns of output per block, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinearTile {
    T128x128,
    T96x192,
    T96x128,
    T96x64,
    T48x64,
}

impl LinearTile {
    /// All tiles.
    pub const ALL: [LinearTile; 5] =
        [LinearTile::T128x128, LinearTile::T96x192, LinearTile::T96x128, LinearTile::T96x64, LinearTile::T48x64];

    /// The tile's name in kernel names.
    pub const fn name(self) -> &'static str {
        ["128x128", "96x192", "96x128", "96x64", "48x64"][self as usize]
    }

    /// Slabs of K in shared memory where only this tile is used: each number that the backend chooses from is tried.
    pub(crate) const fn stages(self) -> usize {
        [2, 2, 3, 4, 2][self as usize]
    }
}
