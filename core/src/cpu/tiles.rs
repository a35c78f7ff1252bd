use super::simd::Simd;

/// A kernel cut into tiles. Implementations are `#[inline(always)]`, so that their code is compiled with the
/// instruction set of the caller.
pub(super) trait Tiles: Sync {
    /// Whether this build has the kernel.
    const IS_BUILT: bool = true;
    /// Whether the code differs between levels of one vector width, which differ in products only.
    const PRODUCTS: bool = false;

    /// Calls `tile`, which computes one tile, with the kernel and whatever that needs beside.
    #[inline(always)]
    fn prepared(&self, tile: impl FnOnce(&Self)) {
        tile(self);
    }

    /// Computes one tile.
    ///
    /// # Safety
    /// No two tiles of one kernel run with the same number at the same time, and the descriptor was checked.
    unsafe fn tile<S: Simd>(&self, s: S, index: usize);
}
