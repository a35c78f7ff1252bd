//! Instruction sets: what this machine has, and running a kernel with one of them.
//!
//! Fuzzing has the scalar one alone: with the fuzzer's counters in them the kernels of all take the compiler very long.

use super::shape::Shape;
#[cfg(all(feature = "simd", not(fuzzing), any(target_arch = "x86_64", target_arch = "aarch64")))]
use super::simd::Detect;
#[cfg(all(feature = "simd", not(fuzzing), target_arch = "x86_64"))]
use super::simd::{Amx, Avx2, Avx512, AvxVnni, Bf16, Vnni, has_slow_bf16_vectors};
#[cfg(all(feature = "simd", not(fuzzing), target_arch = "aarch64"))]
use super::simd::{Dot, I8mm, Neon, NeonBf16};
use super::simd::{Scalar, Simd};
use super::tiles::Tiles;
use crate::DType;
use crate::cpu::exec::Executor;
use crate::tensor::Precision;

/// An instruction set that the kernels are compiled for. Made by detection, so that holding one proves that the
/// machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

/// A level that a machine may have.
struct Candidate {
    name: &'static str,
    detect: fn() -> Option<Level>,
    is_present: fn() -> bool,
}

/// Declares the levels of each architecture, the fastest last: their token, what they add to which base, their
/// name, and the features that their kernels are compiled with.
macro_rules! levels {
    ($($arch:literal: $level:ident, $token:ty, base $base:ident, $name:literal, $features:literal, $tile:ident;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Level {
            Scalar,
            $(
                #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                $level($token),
            )*
        }

        const LEVELS: &[Candidate] = &[
            Candidate { name: "scalar", detect: || Some(Level::Scalar), is_present: || true },
            $(
                #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                Candidate {
                    name: $name,
                    detect: || <$token>::detect().map(Level::$level),
                    is_present: <$token>::is_present,
                },
            )*
        ];

        impl Isa {
            /// Portable Rust without fused or reordered operations: the same bytes on every architecture.
            pub const SCALAR: Isa = Isa(Level::Scalar);

            /// Every instruction set of this machine, in the order in which they add to each other. Each is looked for as the iterator comes to it:
            /// on Linux, looking for AMX asks the system to let this process use it.
            pub fn available() -> impl Iterator<Item = Isa> {
                LEVELS.iter().filter_map(|level| (level.detect)()).map(Isa)
            }

            /// The names of this machine's instruction sets, in the same order. Unlike [`Isa::available`], this asks the
            /// system for nothing.
            pub fn names() -> impl Iterator<Item = &'static str> {
                LEVELS.iter().filter(|level| (level.is_present)()).map(|level| level.name)
            }

            /// The name of every instruction set that there are kernels for on this architecture.
            pub const NAMES: &'static [&'static str] = &["scalar", $(#[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))] $name),*];

            /// The name on the command line.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    Level::Scalar => "scalar",
                    $(
                        #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                        Level::$level(_) => $name,
                    )*
                }
            }
        }

        /// How panels of packed weights look.
        pub(super) fn shape(isa: Isa) -> Shape {
            match isa.0 {
                Level::Scalar => shape_of::<Scalar>(),
                $(
                    #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                    Level::$level(_) => shape_of::<$token>(),
                )*
            }
        }

        fn multiplies_bf16(isa: Isa) -> bool {
            match isa.0 {
                Level::Scalar => Scalar::BF16,
                $(
                    #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                    Level::$level(_) => <$token>::BF16,
                )*
            }
        }

        /// Runs tiles `0..count` of `kernel`, compiled for `isa`. Not inlined: a caller's frame would hold what every
        /// kernel keeps on the stack.
        #[inline(never)]
        pub(super) fn launch<K: Tiles>(isa: Isa, executor: &dyn Executor, count: usize, kernel: &K) {
            if !K::IS_BUILT {
                return;
            }
            // Not every architecture has levels that differ in products.
            let _ = K::PRODUCTS;
            match isa.0 {
                // SAFETY: executors promise to run each tile once.
                Level::Scalar => executor.run(count, &|i| kernel.prepared(|kernel| unsafe { kernel.tile(Scalar, i) })),
                $(
                    #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
                    Level::$level(s) => {
                        if K::PRODUCTS {
                            // SAFETY: the executor runs each tile once, and the token proves the features.
                            executor.run(count, &|i| kernel.prepared(|kernel| unsafe { $tile(kernel, s, i) }));
                        } else {
                            let s = s.base();
                            // SAFETY: the executor runs each tile once; the token proves the features of its base as
                            // well.
                            executor.run(count, &|i| kernel.prepared(|kernel| unsafe { $base(kernel, s, i) }));
                        }
                    }
                )*
            }
        }

        $(
            #[cfg(all(feature = "simd", not(fuzzing), target_arch = $arch))]
            #[target_feature(enable = $features)]
            unsafe fn $tile(kernel: &impl Tiles, s: $token, index: usize) {
                // SAFETY: the caller runs each tile once, on a machine with the features.
                unsafe { kernel.tile(s, index) }
            }
        )*
    };
}

levels! {
    "x86_64": Avx2, Avx2, base tile_avx2, "avx2", "avx2,fma,f16c", tile_avx2;
    "x86_64": Avx2Vnni, Avx2<AvxVnni>, base tile_avx2, "avx2-vnni", "avx2,fma,f16c,avxvnni", tile_avx2_vnni;
    "x86_64": Avx512, Avx512, base tile_avx512, "avx512",
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", tile_avx512;
    "x86_64": Avx512Vnni, Avx512<Vnni>, base tile_avx512, "avx512-vnni",
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni", tile_avx512_vnni;
    "x86_64": Avx512Bf16, Avx512<Bf16>, base tile_avx512, "avx512-bf16",
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni,avx512bf16", tile_avx512_bf16;
    "x86_64": Amx, Avx512<Amx>, base tile_avx512, "amx",
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512vnni,avx512bf16", tile_amx;
    "aarch64": Neon, Neon, base tile_neon, "neon", "neon", tile_neon;
    "aarch64": NeonDot, Neon<Dot>, base tile_neon, "neon-dot", "neon,dotprod", tile_neon_dot;
    "aarch64": NeonI8mm, Neon<I8mm>, base tile_neon, "neon-i8mm", "neon,dotprod,i8mm", tile_neon_i8mm;
    "aarch64": NeonBf16, Neon<NeonBf16>, base tile_neon, "neon-bf16", "neon,dotprod,i8mm,bf16", tile_neon_bf16;
}

impl Isa {
    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        Isa::available().filter(|isa| isa.is_useful()).last().unwrap_or(Isa::SCALAR)
    }

    /// The fastest instruction set of this machine for layers whose inputs have these types. Unless one is int8 or
    /// bf16, AMX would not be used, so it is not looked for.
    pub fn detect_for(inputs: impl IntoIterator<Item = DType>) -> Isa {
        if inputs.into_iter().any(|dtype| matches!(dtype, DType::I8 | DType::BF16)) {
            return Isa::detect();
        }
        let others = LEVELS.iter().rev().filter(|level| level.name != "amx");
        others.filter_map(|level| (level.detect)()).map(Isa).find(|isa| isa.is_useful()).unwrap_or(Isa::SCALAR)
    }

    /// Whether this machine is faster with it than without what it adds.
    fn is_useful(self) -> bool {
        match self.0 {
            #[cfg(all(feature = "simd", not(fuzzing), target_arch = "x86_64"))]
            Level::Avx512Bf16(_) => !has_slow_bf16_vectors(),
            _ => true,
        }
    }

    /// The instruction set of this name, where this machine has it. No other is looked for.
    pub fn from_name(name: &str) -> Option<Isa> {
        let level = LEVELS.iter().find(|level| level.name == name)?;
        (level.detect)().map(Isa)
    }

    /// The activation types that are fastest here: bf16 where there are products of bf16 pairs. f16 weights are
    /// widened. int8 activations are centred: a tile that multiplies a panel has its weights at hand, and both panels of
    /// a gated pair.
    pub fn precision(self) -> Precision {
        let bf16 = if multiplies_bf16(self) { DType::BF16 } else { DType::F32 };
        Precision { bf16, centred: true, fused_swiglu: true, ..Precision::WIDE }
    }
}

fn shape_of<S: Simd>() -> Shape {
    Shape {
        panel: S::PANEL,
        i8_group: S::I8_GROUP,
        sums: S::UNSIGNED,
        i8_parts: S::I8_PARTS,
        block_rows: [S::ROWS, S::DENSE_ROWS],
    }
}
