//! The program's comparison on the host: the scalar kernels give the same bytes on every processor.

use denoir_bare::{ARENA_BYTES, verify};
use denoir_core::Aligned;

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../tiny.gguf"));
static GOLDEN: &[u8] = include_bytes!("../tiny.golden");

#[test]
fn the_host_draws_the_golden_image() {
    let mut arena = Box::new(Aligned([0xff; ARENA_BYTES]));
    let result = verify(&MODEL.0, GOLDEN, &mut arena.0, &mut |isa, rms| println!("{isa}: {rms:e}"));
    let used = result.expect("where core's scalar arithmetic was meant to change: `cargo xtask generate`");
    assert!(used <= ARENA_BYTES);
}

#[test]
fn a_wrong_golden_is_noticed() {
    let mut arena = Box::new(Aligned([0xff; ARENA_BYTES]));
    let mut wrong = GOLDEN.to_vec();
    wrong[100] ^= 1;
    let mut fails = |golden: &[u8]| verify(&MODEL.0, golden, &mut arena.0, &mut |_, _| {}).unwrap_err().to_string();
    assert_eq!(fails(&wrong), "byte 100 of the image differs from the golden one");
    assert_eq!(fails(&GOLDEN[..8]), "byte 8 of the image differs from the golden one");
}
