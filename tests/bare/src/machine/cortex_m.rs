//! Cortex-M4 with a floating-point unit.

use core::arch::{asm, global_asm};

global_asm!(
    ".section .vectors, \"a\"",
    ".word __stack_top",
    ".word _start",
    ".rept 14", // every exception ends the emulation
    ".word fault",
    ".endr",
    ".section .text.start, \"ax\"",
    ".global _start",
    ".thumb_func",
    "_start:",
    "ldr r0, =0xe000ed88", // CPACR: access to the floating-point unit
    "ldr r1, [r0]",
    "orr r1, r1, #0xf00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "ldr r0, =__bss_start",
    "ldr r1, =__bss_end",
    "movs r2, #0",
    "0: cmp r0, r1",
    "bhs 1f",
    "str r2, [r0], #4",
    "b 0b",
    "1: bl bare_main",
    ".ltorg",
);

/// Calls the host.
///
/// # Safety
/// `argument` is what the operation asks for.
pub(super) unsafe fn semihosting(operation: usize, argument: usize) {
    // SAFETY: the host reads what the argument points to, as the caller promises, and answers in r0.
    unsafe { asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument, options(nostack)) };
}

#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    super::print(format_args!("denoir-bare: the processor took an exception\n"));
    super::exit(false)
}
