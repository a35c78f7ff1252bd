//! Gives the linker the memory map of the machine that the program is built for.

fn main() {
    let folder = env("CARGO_MANIFEST_DIR");
    let script = match (env("CARGO_CFG_TARGET_OS").as_str(), env("CARGO_CFG_TARGET_ARCH").as_str()) {
        ("none", "arm") => "cortex-m.ld",
        ("none", "aarch64") => "aarch64.ld",
        _ => return,
    };
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{folder}/{script}");
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
