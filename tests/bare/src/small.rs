//! The least program: draws one image, compares it with the golden one and exits, without a word. Its size is the size
//! of what it takes of `denoir-core`, with the crate's features for one type of weights.
#![cfg_attr(target_os = "none", no_std, no_main)]

use denoir_bare::VALUES;
use denoir_core::cpu::Isa;
use denoir_core::{Aligned, Room};

#[cfg(target_os = "none")]
#[allow(dead_code, reason = "this program says nothing")]
mod machine;

#[cfg(feature = "int8")]
static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../int8.gguf"));
#[cfg(feature = "int8")]
static GOLDEN: &[u8] = include_bytes!("../int8.golden");
#[cfg(not(feature = "int8"))]
static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../f32.gguf"));
#[cfg(not(feature = "int8"))]
static GOLDEN: &[u8] = include_bytes!("../f32.golden");

static mut ARENA: Aligned<[u8; 256 << 10]> = Aligned([0; 256 << 10]);
static mut IMAGE: [f32; VALUES] = [0.0; VALUES];

/// Whether the golden image was drawn.
fn draw() -> bool {
    let (arena, image) = (&raw mut ARENA, &raw mut IMAGE);
    // SAFETY: the only references, in a program of one thread that calls this once.
    let (arena, image) = unsafe { (&mut (*arena).0, &mut *image) };
    denoir_bare::draw(&MODEL.0, &mut Room::new(arena), Isa::SCALAR, image).is_ok()
        && image.iter().flat_map(|x| x.to_le_bytes()).eq(GOLDEN.iter().copied())
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    if draw() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Where the machine's start code goes once there is a stack.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn bare_main() -> ! {
    let drawn = draw();
    machine::exit(drawn && machine::stack_used() <= machine::STACK_BYTES)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    machine::exit(false)
}
