//! Compiles the CUDA kernels for this processor, with a driver that runs them: see `cuda/emulator/README.md`. Without a
//! C++ compiler the tests that need it say so and are skipped.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    // One rounding an operation, whatever the compiler.
    "-ffp-contract=off",
    // Its check of longjmp knows one stack alone.
    "-U_FORTIFY_SOURCE",
    // The name that the driver is asked for by.
    "-Wl,-soname,libcuda.so",
];

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-env-changed=CXX");
    for part in ["kernels", "emulator"] {
        println!("cargo::rerun-if-changed={}", folder.join(part).display());
    }
    let library = out.join("libcuda.so");
    let compiled = compile(&folder, &library);
    if let Err(why) = &compiled {
        println!("cargo::warning=no CUDA emulator: {why}");
    }
    let path = compiled.map(|()| library).unwrap_or_default();
    println!("cargo::rustc-env=DENOIR_CUDA_EMULATOR={}", path.display());
}

fn compile(folder: &Path, library: &Path) -> Result<(), String> {
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "linux") {
        return Err("it is for Linux".into());
    }
    if env::var("TARGET") != env::var("HOST") {
        return Err("this builds for another machine".into());
    }
    let mut kernels = Vec::new();
    for entry in folder.join("kernels").read_dir().map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        kernels.extend(Some(path).filter(|path| path.extension().is_some_and(|e| e == "cu")));
    }
    kernels.sort();
    let emulator = folder.join("emulator");
    let mut compiler = Command::new(env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.args(FLAGS).arg("-o").arg(library).arg(emulator.join("device.cpp")).arg(emulator.join("driver.cpp"));
    compiler.args(["-x", "c++"]).args(kernels).args(["-x", "none", "-ldl"]);
    let status = compiler.status().map_err(|e| format!("no C++ compiler: {e}"))?;
    if status.success() { Ok(()) } else { Err("the C++ compiler fails".into()) }
}
