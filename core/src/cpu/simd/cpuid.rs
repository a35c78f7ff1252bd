//! Features that `cpufeatures` does not know. Their registers are AVX's and AVX-512's, whose use by the operating
//! system the callers have checked; AMX's own are asked for in [`super::amx`].

use core::arch::x86_64::CpuidResult;

/// Leaf 1, ECX.
pub(super) fn has_f16c() -> bool {
    cpuid(1, 0).ecx & 1 << 29 != 0
}

/// `vpdpbusd` on AVX-512 registers: leaf 7, ECX.
pub(super) fn has_avx512_vnni() -> bool {
    cpuid(7, 0).ecx & 1 << 11 != 0
}

/// `vdpbf16ps` on AVX-512 registers: leaf 7.1, EAX.
pub(super) fn has_avx512_bf16() -> bool {
    has_subleaf() && cpuid(7, 1).eax & 1 << 5 != 0
}

/// `vpdpbusd` on AVX registers: leaf 7.1, EAX.
pub(super) fn has_avx_vnni() -> bool {
    has_subleaf() && cpuid(7, 1).eax & 1 << 4 != 0
}

/// Tiles with int8 and bf16 products: leaf 7, EDX.
pub(super) fn has_amx() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    cpuid(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8
}

/// Whether vectors multiply bf16 pairs at half the rate of f32: on Intel's processors so far, which leave bf16 to tiles.
pub(in crate::cpu) fn has_slow_bf16_vectors() -> bool {
    let vendor = cpuid(0, 0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

fn has_subleaf() -> bool {
    cpuid(7, 0).eax >= 1
}

/// What the processor says of itself.
#[allow(unused_unsafe, reason = "the function is safe since Rust 1.94")]
fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) }
}
