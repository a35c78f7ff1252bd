//! Writes `include/denoir.h`, or with `--check` says whether it is up to date.

use std::path::Path;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/denoir.h");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).map_err(anyhow::Error::msg)?;
    let mut header = Vec::new();
    // The other modules are found from there.
    let builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/lib.rs"));
    builder.generate().context("capi/src")?.write(&mut header);
    if std::env::args().any(|arg| arg == "--check") {
        ensure!(
            std::fs::read(&path).is_ok_and(|old| old == header),
            "{} is not what capi/src says: run `cargo xtask generate`",
            path.display()
        );
        return Ok(());
    }
    std::fs::write(&path, header).with_context(|| path.display().to_string())
}
