//! Instruction sets: what a kernel asks of one, and each of them.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod block;
#[cfg(target_arch = "x86_64")]
mod cpuid;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(super) mod product;
mod scalar;
mod vector;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Avx512, Bf16, Vnni};
#[cfg(target_arch = "aarch64")]
pub(super) use neon::{Dot, I8mm, Neon};
pub(super) use scalar::Scalar;
pub(super) use vector::{Element, MAX_LANES, Simd};
