//! What the multipliers of one core can do: a loop of independent products on registers, nothing loaded.

#[cfg(target_arch = "x86_64")]
use core::arch::asm;
use std::time::Duration;

use denoir_core::DType;

/// Repeats one instruction on ten accumulators of each name; `$flop` operations each.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($instruction:literal, $name:literal, $flop:expr, $clock:expr) => {
        best($flop * 10.0 * 16.0, $clock, || {
            // SAFETY: the level was detected; registers only.
            unsafe {
                asm!(
                    "2:",
                    concat!($instruction, " ", $name, "0, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "1, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "2, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "3, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "4, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "5, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "6, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "7, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "8, ", $name, "10, ", $name, "11"),
                    concat!($instruction, " ", $name, "9, ", $name, "10, ", $name, "11"),
                    "dec {n}",
                    "jnz 2b",
                    n = inout(reg) 16 * LOOPS => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                    out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                    options(nomem, nostack),
                );
            }
        })
    };
}

/// The same on four tiles, with the shapes that `ldtilecfg` reads.
#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($instruction:literal, $flop:expr, $clock:expr) => {{
        #[repr(align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            (config.0[16 + 2 * tile], config.0[48 + tile]) = (64, 16);
        }
        best($flop * 4.0, $clock, || {
            // SAFETY: the level was detected; tiles only.
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
        })
    }};
}

#[cfg(target_arch = "x86_64")]
const LOOPS: u64 = 2_000_000;

/// GFLOP/s that the best instruction of a level reaches on a type; `None` where the level has none of its own.
#[cfg(target_arch = "x86_64")]
pub fn peak(level: &str, dtype: DType, clock: fn() -> Duration) -> Option<f64> {
    Some(match (level, dtype) {
        ("amx", DType::I8) => tiles!("tdpbssd", 32_768.0, clock),
        ("amx", DType::BF16) => tiles!("tdpbf16ps", 16_384.0, clock),
        ("avx512-vnni" | "avx512-bf16", DType::I8) => vectors!("vpdpbusd", "zmm", 128.0, clock),
        ("avx512-bf16", DType::BF16) => vectors!("vdpbf16ps", "zmm", 64.0, clock),
        ("amx" | "avx512-bf16" | "avx512-vnni" | "avx512", DType::F32 | DType::F16 | DType::BF16) => {
            vectors!("vfmadd231ps", "zmm", 32.0, clock)
        }
        ("avx2-vnni", DType::I8) => vectors!("{{vex}} vpdpbusd", "ymm", 64.0, clock),
        ("avx2" | "avx2-vnni", DType::F32 | DType::F16 | DType::BF16) => vectors!("vfmadd231ps", "ymm", 16.0, clock),
        _ => return None,
    })
}

/// Not measured on other architectures yet.
#[cfg(not(target_arch = "x86_64"))]
pub fn peak(_level: &str, _dtype: DType, _clock: fn() -> Duration) -> Option<f64> {
    None
}

#[cfg(target_arch = "x86_64")]
fn best(flop: f64, clock: fn() -> Duration, run: impl Fn()) -> f64 {
    let once = || {
        let start = clock();
        run();
        flop * LOOPS as f64 / (clock() - start).as_secs_f64().max(1e-9) / 1e9
    };
    // The clock moves in milliseconds: runs of tens of them.
    (0..5).map(|_| once()).fold(0.0, f64::max)
}
