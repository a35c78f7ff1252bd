//! Compresses the compiled kernels: what a program carries is a fifth of them.

use std::path::{Path, PathBuf};
use std::{env, fs};

use miniz_oxide::deflate::compress_to_vec;

/// Of 1 to 10; more takes twice as long for a hundredth.
const LEVEL: u8 = 6;

fn main() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("modules");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed={}", modules.display());
    for entry in fs::read_dir(&modules).expect("the modules") {
        let path = entry.expect("a module").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        if [".cubin", ".ptx"].iter().any(|ending| name.ends_with(ending)) {
            let bytes = fs::read(&path).expect("a module");
            fs::write(out.join(format!("{name}.z")), compress_to_vec(&bytes, LEVEL)).expect("room for a module");
        }
    }
}
