//! What the multipliers of one core can do: a loop of independent products on registers, nothing loaded.

#[cfg(target_arch = "x86_64")]
use core::arch::asm;

use super::Isa;
use crate::DType;

/// Repeats one instruction on fourteen accumulators of each name; `$flop` operations each. As many as this hide the five
/// cycles that some products take on two ports.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($instruction:literal, $name:literal, $flop:expr) => {{
        // SAFETY: an `Isa` proves that the machine has the level; registers only.
        unsafe {
            asm!(
                "2:",
                concat!($instruction, " ", $name, "0, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "1, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "2, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "3, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "4, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "5, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "6, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "7, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "8, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "9, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "10, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "11, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "12, ", $name, "14, ", $name, "15"),
                concat!($instruction, " ", $name, "13, ", $name, "14, ", $name, "15"),
                "dec {n}",
                "jnz 2b",
                n = inout(reg) 16 * LOOPS => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
                options(nomem, nostack),
            );
        }
        $flop * 14.0 * 16.0
    }};
}

/// The same on four tiles, with the shapes that `ldtilecfg` reads.
#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($instruction:literal, $flop:expr) => {{
        #[repr(align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            (config.0[16 + 2 * tile], config.0[48 + tile]) = (64, 16);
        }
        // SAFETY: an `Isa` proves that the machine has the level; tiles only.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "2:",
                concat!($instruction, " tmm0, tmm4, tmm6"),
                concat!($instruction, " tmm1, tmm4, tmm7"),
                concat!($instruction, " tmm2, tmm5, tmm6"),
                concat!($instruction, " tmm3, tmm5, tmm7"),
                "dec {n}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &raw const config,
                n = inout(reg) LOOPS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
        $flop * 4.0
    }};
}

/// Rounds of a loop: some tens of milliseconds.
#[cfg(target_arch = "x86_64")]
const LOOPS: u64 = 2_000_000;

impl Isa {
    /// Keeps the multipliers of one core busy for some tens of milliseconds with this level's best instruction for a
    /// type of weights, and returns how many operations it did, two for a multiply-add; `None` where there is no such
    /// loop. By the caller's clock, this is the peak that linear layers can be measured against.
    #[cfg(target_arch = "x86_64")]
    pub fn spin(self, weights: DType) -> Option<f64> {
        let flop: f64 = match (self.name(), weights) {
            ("amx", DType::I8) => tiles!("tdpbssd", 32_768.0),
            ("amx", DType::BF16) => tiles!("tdpbf16ps", 16_384.0),
            ("avx512-vnni" | "avx512-bf16", DType::I8) => vectors!("vpdpbusd", "zmm", 128.0),
            ("avx512-bf16", DType::BF16) => vectors!("vdpbf16ps", "zmm", 64.0),
            ("amx" | "avx512-bf16" | "avx512-vnni" | "avx512", DType::F32 | DType::F16 | DType::BF16) => {
                vectors!("vfmadd231ps", "zmm", 32.0)
            }
            ("avx2-vnni", DType::I8) => vectors!("{{vex}} vpdpbusd", "ymm", 64.0),
            ("avx2" | "avx2-vnni", DType::F32 | DType::F16 | DType::BF16) => vectors!("vfmadd231ps", "ymm", 16.0),
            _ => return None,
        };
        Some(flop * LOOPS as f64)
    }

    /// Not known on other architectures yet.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn spin(self, _weights: DType) -> Option<f64> {
        None
    }
}
