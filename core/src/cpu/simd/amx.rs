//! AMX tiles: 16 rows times 64 bytes, multiplied 16 × 16 × 64 int8 or 16 × 16 × 32 bf16 at a time.

use core::arch::asm;
use core::arch::x86_64::*;

use super::avx512::{Avx512, Bf16, Dots};
use super::block::{Block, CHUNK, MAX_PANEL};
use super::cpuid;
use super::detect::Detect;

/// int8 and bf16 products on tiles, the rest as [`Bf16`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amx(Bf16);

/// Rows of a tile.
const ROWS: usize = 16;
/// Rows of a block: two tiles.
const BLOCK_ROWS: usize = 2 * ROWS;
/// Bytes of the next panel that are fetched with each chunk.
const FETCHED: usize = 256;
/// Bytes from one group of `k` to the next in a panel, and from one row of sums to the next.
const STRIDE: usize = 4 * MAX_PANEL;

impl Detect for Avx512<Amx> {
    /// The token, where the machine has the instructions and the system lets this process use them.
    fn detect() -> Option<Self> {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        let Avx512(bf16) = Avx512::<Bf16>::detect()?;
        (cpuid::has_amx() && has_permission()).then_some(Avx512(Amx(bf16)))
    }

    fn is_present() -> bool {
        Avx512::<Bf16>::is_present() && cpuid::has_amx() && is_permitted()
    }
}

const XFEATURE_XTILEDATA: usize = 18;

/// Asks Linux for the tile registers: without it their first use ends the process. It holds for all threads that run
/// then or start later, and for as long as the process lives; the stacks of signal handlers must be larger from then on.
fn has_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == Some(0)
}

/// Whether Linux would give the tile registers to a process that asks.
fn is_permitted() -> bool {
    const ARCH_GET_XCOMP_SUPP: usize = 0x1021;
    let mut supported = 0u64;
    arch_prctl(ARCH_GET_XCOMP_SUPP, (&raw mut supported).expose_provenance()) == Some(0)
        && supported >> XFEATURE_XTILEDATA & 1 == 1
}

/// Linux's `arch_prctl`; `None` elsewhere, where no way to the tile registers is known here.
fn arch_prctl(request: usize, argument: usize) -> Option<isize> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    const ARCH_PRCTL: isize = 158;
    let result: isize;
    // SAFETY: the system call writes nothing, or 64 bits where the argument is the address of as many; it changes rcx
    // and r11 beside its result.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") request,
            in("rsi") argument,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    Some(result)
}

/// A block of 32 rows and 64 columns, half of the columns at a time: two tiles by two. `$bytes` make a row of `x`.
macro_rules! tiles {
    ($dot:literal, $b:expr, $bytes:expr) => {
        let (b, bytes): (&mut Block<'_>, usize) = ($b, $bytes);
        let (full, rest) = (bytes / CHUNK * CHUNK, bytes % CHUNK);
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        let tail = unsafe { Tail::new(b, full, rest) };
        let second = if b.rows > ROWS { ROWS } else { 0 };
        for half in 0..2 {
            // SAFETY: the tiles have the shapes of this many rows, and only detection makes a token, so the machine has
            // the instructions. Reads whole chunks of the block's rows, its tail, and as many chunks of the panel,
            // which is padded to whole ones; writes 32 rows of half the columns of the sums, and reads them before
            // where they are added to.
            unsafe {
                let to = b.sums.cast::<u8>().add(half * STRIDE / 2);
                asm!(
                    "test {add}, {add}",
                    "jnz 5f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 6f",
                    "5:",
                    "tileloadd tmm0, [{to} + {w_stride}]",
                    "tileloadd tmm1, [{to} + {w_stride} + 64]",
                    "tileloadd tmm2, [{to} + {w_stride} + 4096]",
                    "tileloadd tmm3, [{to} + {w_stride} + 4160]",
                    "6:",
                    "test {chunks}, {chunks}",
                    "jz 3f",
                    "2:",
                    "prefetcht0 [{w} + 4096]",
                    "prefetcht0 [{w} + 4160]",
                    "prefetcht0 [{w} + 4352]",
                    "prefetcht0 [{w} + 4416]",
                    "prefetcht0 [{w} + 4608]",
                    "prefetcht0 [{w} + 4672]",
                    "prefetcht0 [{w} + 4864]",
                    "prefetcht0 [{w} + 4928]",
                    "prefetcht0 [{w} + 5120]",
                    "prefetcht0 [{w} + 5184]",
                    "prefetcht0 [{w} + 5376]",
                    "prefetcht0 [{w} + 5440]",
                    "prefetcht0 [{w} + 5632]",
                    "prefetcht0 [{w} + 5696]",
                    "prefetcht0 [{w} + 5888]",
                    "prefetcht0 [{w} + 5952]",
                    "prefetcht0 [{w} + 6144]",
                    "prefetcht0 [{w} + 6208]",
                    "prefetcht0 [{w} + 6400]",
                    "prefetcht0 [{w} + 6464]",
                    "prefetcht0 [{w} + 6656]",
                    "prefetcht0 [{w} + 6720]",
                    "prefetcht0 [{w} + 6912]",
                    "prefetcht0 [{w} + 6976]",
                    "prefetcht0 [{w} + 7168]",
                    "prefetcht0 [{w} + 7232]",
                    "prefetcht0 [{w} + 7424]",
                    "prefetcht0 [{w} + 7488]",
                    "prefetcht0 [{w} + 7680]",
                    "prefetcht0 [{w} + 7744]",
                    "prefetcht0 [{w} + 7936]",
                    "prefetcht0 [{w} + 8000]",
                    "tileloadd tmm6, [{w} + {w_stride}]",
                    "tileloadd tmm4, [{x0} + {x_stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{w} + {w_stride} + 64]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{x1} + {x_stride}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "prefetcht1 [{next}]",
                    "prefetcht1 [{next} + 64]",
                    "prefetcht1 [{next} + 128]",
                    "prefetcht1 [{next} + 192]",
                    "add {next}, 256",
                    "add {x0}, 64",
                    "add {x1}, 64",
                    "add {w}, 4096",
                    "dec {chunks}",
                    "jnz 2b",
                    "3:",
                    "test {rest}, {rest}",
                    "jz 4f",
                    "mov {x_stride}, 64",
                    "tileloadd tmm6, [{w} + {w_stride}]",
                    "tileloadd tmm4, [{tail0} + {x_stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{w} + {w_stride} + 64]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{tail1} + {x_stride}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "4:",
                    "tilestored [{to} + {w_stride}], tmm0",
                    "tilestored [{to} + {w_stride} + 64], tmm1",
                    "tilestored [{to} + {w_stride} + 4096], tmm2",
                    "tilestored [{to} + {w_stride} + 4160], tmm3",
                    chunks = inout(reg) full / CHUNK => _,
                    next = inout(reg) b.next.as_ptr().wrapping_add(half * full / CHUNK * FETCHED) => _,
                    rest = in(reg) rest,
                    x0 = inout(reg) b.x => _,
                    x1 = inout(reg) b.x.add(second * b.stride) => _,
                    x_stride = inout(reg) b.stride => _,
                    w = inout(reg) b.w.add(half * STRIDE / 2) => _,
                    w_stride = in(reg) STRIDE,
                    add = in(reg) usize::from(b.add),
                    tail0 = in(reg) tail.0.as_ptr(),
                    tail1 = in(reg) tail.0.as_ptr().add(second),
                    to = in(reg) to,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}
/// Vectors multiply bf16 pairs at half the rate of f32 on the processors that have tiles, so they do not.
impl Dots for Amx {
    const UNSIGNED: bool = false;
    const BF16: bool = true;
    const DENSE_ROWS: usize = BLOCK_ROWS;
    const I8_PARTS: usize = 0;

    #[inline(always)]
    fn dot(self, sums: __m512i, w: __m512i, x: __m512i) -> __m512i {
        self.0.dot(sums, w, x)
    }

    #[inline(always)]
    fn bf16(self, x: __m512) -> __m256i {
        self.0.bf16(x)
    }

    #[inline(always)]
    unsafe fn block_i8(self, b: &mut Block<'_>) {
        let bytes = b.k;
        tiles!("tdpbssd", b, bytes);
    }

    #[inline(always)]
    unsafe fn row_i8(self, b: &mut Block<'_>) {
        // SAFETY: the caller promises that operands and sums are as large as the block says.
        unsafe { self.block_i8(b) }
    }

    #[inline(always)]
    unsafe fn block_bf16(self, b: &mut Block<'_>) {
        let bytes = 2 * b.k;
        tiles!("tdpbf16ps", b, bytes);
    }

    #[inline(always)]
    fn begin_blocks(self, rows: usize) {
        let config = Config::new(rows);
        // SAFETY: the shapes of the tiles last until the next time, for nothing else touches them; only detection makes
        // a token, so the machine has the instructions.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
    }

    #[inline(always)]
    fn end_blocks(self) {
        // SAFETY: ends the use of the tiles; only detection makes a token, so the machine has the instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// What `ldtilecfg` reads: palette 1, bytes and rows of each tile.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Tiles 0 to 3 for sums, 4 and 5 for activations, 6 and 7 for weights.
    #[inline(always)]
    fn new(rows: usize) -> Config {
        let upper = rows.min(ROWS) as u8;
        // A tile has at least one row; that of a block without a second half repeats the first one, and is not read.
        let lower = rows.saturating_sub(ROWS).max(1) as u8;
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, 16, 16]);
        config
    }
}

/// The end of each row of a block, padded with zeros.
#[repr(C, align(64))]
struct Tail([[u8; CHUNK]; BLOCK_ROWS]);

impl Tail {
    /// # Safety
    /// The block's promises; `full + rest` bytes make a row.
    #[inline(always)]
    unsafe fn new(b: &Block<'_>, full: usize, rest: usize) -> Tail {
        let mut tail = Tail([[0; CHUNK]; BLOCK_ROWS]);
        if rest > 0 {
            let mask = (1u64 << rest) - 1;
            for (i, to) in tail.0.iter_mut().enumerate().take(b.rows) {
                // SAFETY: masked to what is left of the row.
                unsafe {
                    let from = b.x.add(i * b.stride + full).cast();
                    _mm512_store_si512(to.as_mut_ptr().cast(), _mm512_maskz_loadu_epi8(mask, from));
                }
            }
        }
        tail
    }
}

const _: () = assert!(size_of::<Config>() == 64 && STRIDE * ROWS == 4096);

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use crate::cpu::Isa;

    std::thread_local! {
        /// How often this thread looked for AMX, for which it asks the system where the processor has it.
        pub(super) static LOOKS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn amx_is_looked_for_only_where_it_is_wanted() {
        let looks = |look: &dyn Fn()| {
            LOOKS.set(0);
            look();
            LOOKS.get()
        };
        for &name in Isa::NAMES {
            let found = looks(&|| _ = Isa::from_name(name));
            assert_eq!(found, u32::from(name == "amx"), "{name}");
        }
        assert_eq!(looks(&|| assert!(Isa::names().count() > 0)), 0);
        assert_eq!(looks(&|| _ = Isa::detect_for([crate::DType::F32, crate::DType::F16])), 0);
        assert_eq!(looks(&|| _ = Isa::detect_for([crate::DType::I8])), 1);
        assert_eq!(looks(&|| _ = Isa::detect()), 1);
    }
}
