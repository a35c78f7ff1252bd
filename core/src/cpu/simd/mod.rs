//! Instruction sets: what a kernel asks of one, and each of them.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod amx;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
pub(super) mod block;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod cpuid;
#[cfg(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod detect;
#[cfg(all(feature = "simd", target_arch = "aarch64"))]
mod i8mm;
#[cfg(all(feature = "simd", target_arch = "aarch64"))]
mod lanes;
#[cfg(all(feature = "simd", target_arch = "aarch64"))]
mod neon;
pub(super) mod product;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod rewritten;
mod scalar;
mod vector;

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
pub(super) use amx::Amx;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
pub(super) use avx2::{Avx2, AvxVnni};
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
pub(super) use avx512::{Avx512, Bf16, Vnni};
#[cfg(all(feature = "simd", not(fuzzing), target_arch = "x86_64"))]
pub(super) use cpuid::has_slow_bf16_vectors;
#[cfg(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use detect::Detect;
#[cfg(all(feature = "simd", target_arch = "aarch64"))]
pub(super) use neon::{Bf16 as NeonBf16, Dot, I8mm, Neon};
pub(super) use scalar::Scalar;
pub(super) use vector::{Element, MAX_LANES, Simd};
