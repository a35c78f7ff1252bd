//! A machine without an operating system: start code, and Arm semihosting, by which a program under an emulator or
//! debugger prints and exits ("Semihosting for AArch32 and AArch64", Arm IHI 0071).

#[cfg_attr(target_arch = "arm", path = "machine/cortex_m.rs")]
#[cfg_attr(target_arch = "aarch64", path = "machine/aarch64.rs")]
mod arch;

use core::fmt::{self, Write};

use arch::semihosting;

/// Bytes of the stack that drawing may take.
pub(crate) const STACK_BYTES: usize = if cfg!(target_arch = "arm") { 16 << 10 } else { 64 << 10 };

/// Prints one character; the argument is its address.
const SYS_WRITEC: usize = 0x03;
/// Exits; the argument is the address of a reason and a status.
const SYS_EXIT_EXTENDED: usize = 0x20;
/// The reason of an exit that the program itself asks for.
const APPLICATION_EXIT: usize = 0x2_0026;

unsafe extern "C" {
    static __stack_bottom: u32;
    static __stack_top: u32;
}

struct Host;

impl Write for Host {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the address of a character.
            unsafe { semihosting(SYS_WRITEC, &raw const byte as usize) };
        }
        Ok(())
    }
}

/// Prints on the host.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    // `Host` never fails, and an error has nowhere to go.
    let _ = Host.write_fmt(text);
}

/// Ends the emulation, with status 0 if `ok`.
pub(crate) fn exit(ok: bool) -> ! {
    let block = [APPLICATION_EXIT, usize::from(!ok)];
    loop {
        // SAFETY: the address of two words.
        unsafe { semihosting(SYS_EXIT_EXTENDED, block.as_ptr() as usize) };
    }
}

/// Most bytes of the stack that were ever in use. Counts on memory that was zero at the start, as an emulator's is.
pub(crate) fn stack_used() -> usize {
    let (mut word, top) = (&raw const __stack_bottom, &raw const __stack_top);
    // SAFETY: the words of the stack, whose ends the linker script defines.
    while word < top && unsafe { word.read_volatile() } == 0 {
        // SAFETY: not past the top.
        word = unsafe { word.add(1) };
    }
    top.addr() - word.addr()
}
