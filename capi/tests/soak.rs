//! A short soak; `cargo run --release -p denoir-capi --example soak` is the long one. The only test of this file, for it
//! counts what the process holds.
#![cfg(target_os = "linux")]

mod common;

#[test]
fn memory_threads_and_descriptors_stay_as_they_are() -> anyhow::Result<()> {
    common::soak::soak(300, 60)
}
