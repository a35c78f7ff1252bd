//! Instruction sets: what this machine has, and running a kernel with one of them.

use super::Tiles;
use super::simd::Scalar;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use crate::exec::Executor;

/// An instruction set that the kernels are compiled for. Made by detection, so that holding one proves that the
/// machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// Portable Rust without fused or reordered operations: the same bytes on every architecture.
    pub const SCALAR: Isa = Isa(Level::Scalar);

    /// Every instruction set of this machine, the fastest last.
    pub fn available() -> impl Iterator<Item = Isa> {
        [
            Some(Level::Scalar),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Level::Avx512),
        ]
        .into_iter()
        .flatten()
        .map(Isa)
    }

    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        Isa::available().last().unwrap_or(Isa::SCALAR)
    }

    /// The instruction set of this name, where this machine has it.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::available().find(|isa| isa.name() == name)
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
        }
    }
}

/// Runs tiles `0..count` of `kernel`, compiled for `isa`.
pub(super) fn launch(isa: Isa, executor: &impl Executor, count: usize, kernel: &impl Tiles) {
    match isa.0 {
        // SAFETY: the executor runs each tile once.
        Level::Scalar => executor.run(count, &|i| unsafe { kernel.tile(Scalar, i) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, and the token proves the features.
        Level::Avx2(s) => executor.run(count, &|i| unsafe { tile_avx2(kernel, s, i) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, and the token proves the features.
        Level::Avx512(s) => executor.run(count, &|i| unsafe { tile_avx512(kernel, s, i) }),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_avx2(kernel: &impl Tiles, s: Avx2, index: usize) {
    // SAFETY: passed on.
    unsafe { kernel.tile(s, index) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn tile_avx512(kernel: &impl Tiles, s: Avx512, index: usize) {
    // SAFETY: passed on.
    unsafe { kernel.tile(s, index) }
}

/// F16C, which `cpufeatures` does not know: leaf 1, ECX bit 29. Its registers are AVX's, whose use by the operating
/// system the callers have checked.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_f16c() -> bool {
    core::arch::x86_64::__cpuid(1).ecx & 1 << 29 != 0
}
