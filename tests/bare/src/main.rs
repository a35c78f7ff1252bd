//! Draws the tiny model and compares the image with the golden one; on a bare machine, or on the host as a program
//! like any other. Exits with 0 where the images are equal.
#![cfg_attr(target_os = "none", no_std, no_main)]

use denoir_bare::ARENA_BYTES;
use denoir_core::Aligned;

#[cfg(target_os = "none")]
mod machine;

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../tiny.gguf"));
static GOLDEN: &[u8] = include_bytes!("../tiny.golden");
static mut ARENA: Aligned<[u8; ARENA_BYTES]> = Aligned([0; ARENA_BYTES]);

/// The arena.
///
/// # Safety
/// Called once.
unsafe fn arena() -> &'static mut [u8] {
    let arena = &raw mut ARENA;
    // SAFETY: the only reference, as the caller promises.
    unsafe { &mut (*arena).0 }
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    // SAFETY: the only call, in a program of one thread.
    let result = denoir_bare::verify(&MODEL.0, GOLDEN, unsafe { arena() }, &mut |isa, rms| {
        println!("{isa}: {} billionths", denoir_bare::billionths(rms))
    });
    match result {
        Ok(used) => println!("denoir-bare: the golden image, {used} bytes of arena"),
        Err(e) => {
            eprintln!("denoir-bare: {e}");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}

/// Where the machine's start code goes once there is a stack.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn bare_main() -> ! {
    // SAFETY: the start code calls this once, and there are no other threads.
    let arena = unsafe { arena() };
    let result = denoir_bare::verify(&MODEL.0, GOLDEN, arena, &mut |isa, rms| {
        machine::print(format_args!("{isa}: {} billionths\n", denoir_bare::billionths(rms)));
    });
    let stack = machine::stack_used();
    match &result {
        Ok(used) => {
            machine::print(format_args!(
                "denoir-bare: the golden image, {used} bytes of arena, {stack} bytes of stack\n"
            ));
        }
        Err(e) => machine::print(format_args!("denoir-bare: {e}\n")),
    }
    if stack > machine::STACK_BYTES {
        machine::print(format_args!("denoir-bare: more than {} bytes of stack\n", machine::STACK_BYTES));
    }
    machine::exit(result.is_ok() && stack <= machine::STACK_BYTES)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    machine::print(format_args!("denoir-bare: {info}\n"));
    machine::exit(false)
}
