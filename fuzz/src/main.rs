//! libFuzzer on one target, which the variable `DENOIR_FUZZ_TARGET` names. `cargo xtask fuzz` builds and runs it.

#![no_main]

use denoir_fuzz::{Target, count_memory, say_processor_time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { say_processor_time(); count_memory() }, |input: &[u8]| {
    Target::from_environment().check(input);
});
