//! A 64-bit Arm processor at exception level 1, memory translation off: the target's `strict-align` keeps accesses
//! aligned, as device memory wants them.

use core::arch::{asm, global_asm};

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "mrs x0, cpacr_el1", // access to the floating-point unit
    "orr x0, x0, #0x300000",
    "msr cpacr_el1, x0",
    "ldr x0, =vectors",
    "msr vbar_el1, x0",
    "isb",
    "ldr x0, =__stack_top",
    "mov sp, x0",
    "ldr x0, =__bss_start",
    "ldr x1, =__bss_end",
    "0: cmp x0, x1",
    "b.hs 1f",
    "str xzr, [x0], #8",
    "b 0b",
    "1: bl bare_main",
    ".ltorg",
    ".balign 2048",
    "vectors:",
    ".rept 16", // every exception ends the emulation
    "b fault",
    ".balign 128",
    ".endr",
);

/// Calls the host.
///
/// # Safety
/// `argument` is what the operation asks for.
pub(super) unsafe fn semihosting(operation: usize, argument: usize) {
    // SAFETY: the host reads what the argument points to, as the caller promises, and answers in x0.
    unsafe { asm!("hlt 0xf000", inout("x0") operation => _, in("x1") argument, options(nostack)) };
}

#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    super::print(format_args!("denoir-bare: the processor took an exception\n"));
    super::exit(false)
}
